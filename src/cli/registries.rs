//! Where settings and credentials of registries are on this machine, and the client that is made with them.
//!
//! What stands in the files is read in `registry::settings`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::settings::Settings;
use crate::{
    registry,
    report::{
        Diagnostic,
        event::{Event, Sink},
    },
    sandbox,
};

/// The client of all registries, with the settings that the user and other tools have for them.
///
/// # Errors
/// A file of settings that cannot be read, with its line.
pub(crate) fn client(settings: &Settings, sink: &Sink) -> Result<registry::Client, Box<Diagnostic>> {
    let loaded = registry::load_settings(&registry_files(&settings.env)).map_err(|why| {
        let fault = Diagnostic::error("bake::cli::registry_settings", format!("the settings of registries: {why}"));
        Box::new(fault.help("docs/registries.md lists what may stand there"))
    })?;
    for text in loaded.ignored {
        sink(Event::Warning(Arc::new(Diagnostic::warning("bake::cli::registry_settings", text))));
    }
    let mut options = registry::ClientOptions::new(|program| sandbox::command(program));
    options.docker_config = Some(docker_config(settings));
    let podman = |folder: &String| Path::new(folder).join("containers/auth.json");
    let podman = settings.env.get("XDG_RUNTIME_DIR").filter(|it| !it.is_empty()).map(podman);
    options.auth_files = settings.env.get("REGISTRY_AUTH_FILE").map(Into::into).into_iter().chain(podman).collect();
    options.env = settings.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    options.hosts = loaded.hosts;
    options.certificate_folders.splice(0..0, certificate_folders(&settings.env));
    Ok(registry::Client::new(options))
}

/// The folder of Docker's configuration: `DOCKER_CONFIG`, else `~/.docker`.
pub(crate) fn docker_config(settings: &Settings) -> PathBuf {
    let folder = settings.env.get("DOCKER_CONFIG").filter(|it| !it.is_empty());
    folder.map_or_else(|| Path::new(&settings.home).join(".docker"), PathBuf::from)
}

/// The folder of the user's configuration files: `XDG_CONFIG_HOME`, else `~/.config`.
fn config_folder(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty());
    set("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".config")))
}

/// Where settings of registries may be: the file of `bake`, and those of podman and skopeo as those tools look for them
/// (containers-registries.conf(5)).
fn registry_files(env: &BTreeMap<String, String>) -> registry::SettingsFiles {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = config_folder(env);
    let in_config = |name: &str| config.as_ref().map(|folder| folder.join(name));
    let usual = || in_config("bake/registries.toml").map(|path| (path, false));
    let own = set("BAKE_REGISTRIES").map(|path| (path, true)).or_else(usual);
    let buildkitd = buildkitd_files(env);
    if let Some(path) = set("CONTAINERS_REGISTRIES_CONF") {
        return registry::SettingsFiles { own, containers: vec![path], containers_more: Vec::new(), buildkitd };
    }
    let both = |name: &str| {
        let system = PathBuf::from("/etc").join(name);
        (in_config(name), system)
    };
    let (user, system) = both("containers/registries.conf");
    let containers = user.into_iter().chain([system]).collect();
    let (user, system) = both("containers/registries.conf.d");
    let containers_more = [system].into_iter().chain(user).collect();
    registry::SettingsFiles { own, containers, containers_more, buildkitd }
}

/// Where settings of BuildKit's daemon may be: what `docker buildx create` takes by default, then what `buildkitd` reads as
/// an ordinary user and as root.
fn buildkitd_files(env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let docker = set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")));
    let buildx = set("BUILDX_CONFIG").or_else(|| docker.map(|folder| folder.join("buildx")));
    let user = config_folder(env).map(|folder| folder.join("buildkit/buildkitd.toml"));
    let buildx = buildx.map(|folder| folder.join("buildkitd.default.toml"));
    buildx.into_iter().chain(user).chain([PathBuf::from("/etc/buildkit/buildkitd.toml")]).collect()
}

/// The user's own folders with certificates and `hosts.toml` of registries.
fn certificate_folders(env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let folders = ["docker/certs.d", "containers/certs.d"];
    config_folder(env).map(|config| folders.map(|name| config.join(name)).into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_user_come_before_those_of_the_machine() {
        let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let files = registry_files(&env(&[("HOME", "/h")]));
        assert_eq!(files.own, Some(("/h/.config/bake/registries.toml".into(), false)));
        let usual = ["/h/.config/containers/registries.conf", "/etc/containers/registries.conf"];
        assert_eq!(files.containers, usual.map(PathBuf::from));
        let files = registry_files(&env(&[("BAKE_REGISTRIES", "r.toml"), ("CONTAINERS_REGISTRIES_CONF", "c.conf")]));
        assert_eq!((files.own, files.containers), (Some(("r.toml".into(), true)), vec!["c.conf".into()]));
        assert!(files.containers_more.is_empty());
        let files = registry_files(&env(&[("HOME", "/h")])).buildkitd;
        let usual = [
            "/h/.docker/buildx/buildkitd.default.toml",
            "/h/.config/buildkit/buildkitd.toml",
            "/etc/buildkit/buildkitd.toml",
        ];
        assert_eq!(files, usual.map(PathBuf::from));
        let folders = certificate_folders(&env(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]));
        assert_eq!(folders[0], Path::new("/x/docker/certs.d"));
    }
}
