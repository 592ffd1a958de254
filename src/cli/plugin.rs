//! The binary as a plugin of the Docker CLI: installed as `docker-buildx` or `docker-bake`, it serves `docker buildx …` and
//! `docker bake …`, so that a pipeline changes one install step and no script.
//!
//! The protocol is that of the CLI's own plugins (<https://pkg.go.dev/github.com/docker/cli/cli-plugins/metadata>): a call with
//! `docker-cli-plugin-metadata` answers who we are; any other call has the options of `docker` itself, the name of the plugin,
//! and its arguments.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use serde_json::json;

use super::settings::Environment;

/// The release of the peer whose commands and options are served; scripts compare it with what they need.
const PEER_VERSION: &str = "v0.31.0";
/// The first argument of a call that asks who we are.
const METADATA: &str = "docker-cli-plugin-metadata";

/// The names under which the binary is a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plugin {
    Buildx,
    Bake,
}

/// A call of the plugin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PluginCall {
    /// Who we are, as JSON.
    Metadata(String),
    /// `docker buildx` with these arguments, the first of which is the program.
    Buildx(Vec<OsString>),
    /// `docker bake` with these arguments, the first of which is the program.
    Bake(Vec<OsString>),
}

/// How `bake` was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// By its own name.
    Program,
    /// As a plugin of the Docker CLI: what has no output is loaded into the engine of the Docker context if that answers, as
    /// by the `docker` driver of the peer.
    Plugin,
}

impl Plugin {
    /// The plugin that a program of this path is.
    pub(crate) fn of_program(path: &OsStr) -> Option<Self> {
        match Path::new(path).file_name()?.to_str()? {
            "docker-buildx" => Some(Self::Buildx),
            "docker-bake" => Some(Self::Bake),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Buildx => "buildx",
            Self::Bake => "bake",
        }
    }

    /// Reads the arguments of a call. What the options of `docker` choose becomes the variable that chooses the same.
    pub(crate) fn call(self, arguments: &[OsString], env: &mut Environment) -> PluginCall {
        let rest = arguments.get(1..).unwrap_or_default();
        if rest.first().is_some_and(|word| word == METADATA) {
            return PluginCall::Metadata(self.metadata());
        }
        let mut rest = docker_options(rest, env);
        // Called by its own name (`docker-buildx build`) the word is not there.
        if rest.first().is_some_and(|word| word == self.name()) {
            rest = &rest[1..];
        }
        let with_program = |program: &str| [&[OsString::from(program)], rest].concat();
        match self {
            Self::Buildx => PluginCall::Buildx(with_program("docker buildx")),
            Self::Bake => PluginCall::Bake(with_program("docker bake")),
        }
    }

    fn metadata(self) -> String {
        let about = match self {
            Self::Buildx => "Docker Buildx, served by bake",
            Self::Bake => "Build what a bake file describes",
        };
        let answer = json!({
            "SchemaVersion": "0.1.0",
            "Vendor": "bake",
            "Version": format!("{PEER_VERSION}+bake.{}", env!("CARGO_PKG_VERSION")),
            "ShortDescription": about,
        });
        format!("{answer:#}\n")
    }
}

/// What `docker buildx version` prints: the release of the peer that is served comes where scripts look for it.
pub(crate) fn version() -> String {
    format!("github.com/docker/buildx {PEER_VERSION} served by bake {}\n", env!("CARGO_PKG_VERSION"))
}

/// Takes the options of `docker` itself from the front of the arguments.
fn docker_options<'a>(mut rest: &'a [OsString], env: &mut Environment) -> &'a [OsString] {
    while let Some(text) = rest.first().and_then(|word| word.to_str()).filter(|text| text.starts_with('-')) {
        let (flag, inline) = text.split_once('=').map_or((text, None), |(flag, value)| (flag, Some(value)));
        let variable = match flag {
            "--config" => "DOCKER_CONFIG",
            "-c" | "--context" => "DOCKER_CONTEXT",
            "-H" | "--host" => "DOCKER_HOST",
            "-l" | "--log-level" | "--tlscacert" | "--tlscert" | "--tlskey" => "",
            "-D" | "--debug" | "--tls" => {
                rest = &rest[1..];
                continue;
            }
            "--tlsverify" => {
                env.insert("DOCKER_TLS_VERIFY".to_owned(), "1".to_owned());
                rest = &rest[1..];
                continue;
            }
            _ => break,
        };
        let value = inline.map(str::to_owned).or_else(|| Some(rest.get(1)?.to_str()?.to_owned()));
        rest = rest.get(if inline.is_some() { 1 } else { 2 }..).unwrap_or_default();
        if let Some(value) = value.filter(|_| !variable.is_empty()) {
            env.insert(variable.to_owned(), value);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(plugin: Plugin, arguments: &[&str]) -> (PluginCall, Environment) {
        let mut env = Environment::new();
        let arguments: Vec<OsString> = ["docker-x"].iter().chain(arguments).map(OsString::from).collect();
        (plugin.call(&arguments, &mut env), env)
    }

    #[test]
    fn options_of_docker_and_the_name_of_the_plugin_are_taken_away() {
        let words = |all: &[&str]| all.iter().map(OsString::from).collect::<Vec<_>>();
        let (found, env) = call(Plugin::Buildx, &["--context=far", "-D", "-l", "info", "buildx", "build", "-D", "."]);
        assert_eq!(found, PluginCall::Buildx(words(&["docker buildx", "build", "-D", "."])));
        assert_eq!(env["DOCKER_CONTEXT"], "far");
        let (found, _) = call(Plugin::Buildx, &["build", "."]);
        assert_eq!(found, PluginCall::Buildx(words(&["docker buildx", "build", "."])));
        let (found, env) = call(Plugin::Bake, &["-H", "unix:///x", "bake", "bake", "--print"]);
        assert_eq!(found, PluginCall::Bake(words(&["docker bake", "bake", "--print"])));
        assert_eq!(env["DOCKER_HOST"], "unix:///x");
    }

    #[test]
    fn the_metadata_is_what_the_docker_cli_wants() {
        let (PluginCall::Metadata(text), _) = call(Plugin::Buildx, &[METADATA]) else { panic!("no metadata") };
        let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(value["SchemaVersion"], "0.1.0");
        assert!(value["Vendor"].as_str().is_some_and(|vendor| !vendor.is_empty()));
        assert_eq!(Plugin::of_program(OsStr::new("/usr/libexec/docker/cli-plugins/docker-bake")), Some(Plugin::Bake));
        assert_eq!(Plugin::of_program(OsStr::new("/usr/bin/bake")), None);
    }
}
