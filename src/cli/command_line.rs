//! The command line of `bake build` as a definition of one target, so that it takes the same road as a bake file: the same
//! parsers of options, the same plan, the same errors, whose places point into the arguments.
//!
//! What is on standard input has been read when this is made (`stdin`). Nothing is evaluated here.

use std::{collections::HashSet, path::Path};

use super::{
    build_args::BuildArgs,
    stdin::{StdinInput, StdinUse},
};
use crate::{
    definition::{
        attribute::Id,
        load::Definition,
        syntax::{AttributeSyntax, Block, Body, Expr, ExprKind},
    },
    oci::Reference,
    report::{Diagnostic, SourceMap, Span, Spanned},
    spec::{
        context::{ContextSource, is_git},
        dockerfile::DockerfileInput,
        path::clean,
    },
};

/// The name of the target.
pub(crate) const TARGET: &str = "default";

/// The target of a command line.
#[derive(Clone, Debug)]
pub(crate) struct CommandLineTarget {
    attributes: Vec<(Id, AttributeArgs)>,
    /// `-f` names the Dockerfile: it is the user's own word where it lies.
    pub(crate) names_dockerfile: bool,
}

/// A value of the command line, and what gave it, for messages: a flag (`--tag`), `context` or `standard input`.
///
/// The value need not be as typed: the path of `--file` is rewritten.
#[derive(Clone, Debug)]
pub(crate) struct FlagText {
    pub(crate) flag: &'static str,
    pub(crate) text: String,
}

/// A name and its value, and the flag that gave both as `text`.
#[derive(Clone, Debug)]
pub(crate) struct FlagPair {
    pub(crate) given: FlagText,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// The arguments that make up one attribute.
#[derive(Clone, Debug)]
pub(crate) enum AttributeArgs {
    Text(FlagText),
    List(Vec<FlagText>),
    Pairs(Vec<FlagPair>),
}

/// Where the build reads from, decided by the shape of the positional argument and what lies on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContextArg {
    /// A folder, as a text that `context` of a target takes.
    Folder(String),
    /// A git repository or a download.
    Url(String),
    Stdin,
    /// The name of an image.
    Image(String),
}

impl ContextArg {
    /// Decides what the positional argument is. A folder of this name wins, then URLs, then names of images.
    ///
    /// # Errors
    /// When it is a file, or a path that does not exist.
    pub(crate) fn parse(argument: Option<&str>, cwd: &Path) -> Result<Self, Box<Diagnostic>> {
        let text = argument.unwrap_or(".");
        if text == "-" {
            return Ok(Self::Stdin);
        }
        let here = cwd.join(text);
        if here.is_dir() {
            let is_plain = matches!(ContextSource::parse(text), ContextSource::Local(_));
            return Ok(Self::Folder(if is_plain { text.to_owned() } else { format!("./{text}") }));
        }
        let fault = |message: String| Diagnostic::error("bake::cli::no_context", message);
        if here.exists() {
            let fault = fault(format!("unable to prepare context: not a directory: {text}"));
            let help = format!("give the folder; -f {text} names a Dockerfile, `-` with `< {text}` reads an archive");
            return Err(Box::new(fault.help(help)));
        }
        if text.starts_with("http://") || text.starts_with("https://") || is_git(text) {
            return Ok(Self::Url(text.to_owned()));
        }
        let is_path = text.starts_with(['/', '.', '~']) || text.ends_with('/') || text.is_empty();
        if !is_path && Reference::parse(text).is_ok() {
            return Ok(Self::Image(text.to_owned()));
        }
        let help = "give a folder, a URL, - for standard input, or the name of an image that was built here";
        Err(Box::new(fault(format!("unable to prepare context: path \"{text}\" not found")).help(help)))
    }
}

impl CommandLineTarget {
    /// The target that the arguments describe. `env` gives the values of build arguments without one. `default_output` is that
    /// of a build whose image ID is wanted and which has no other output.
    ///
    /// # Errors
    /// Every argument that cannot be split into name and value.
    pub(crate) fn new(
        args: &BuildArgs,
        context: &ContextArg,
        stdin: Option<&StdinInput>,
        env: impl Fn(&str) -> Option<String>,
        default_output: Option<&str>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let mut target = Self { attributes: Vec::new(), names_dockerfile: args.file.is_some() };
        target.inputs(args, context, stdin);
        target.pairs(Id::Contexts, "--build-context", &args.build_contexts, &mut faults, |text| {
            text.split_once('=').map(|(name, value)| (Reference::short(name), value.to_owned()))
        });
        target.pairs(Id::Args, "--build-arg", &args.build_args, &mut faults, |text| match text.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            // Without a value that of the environment counts; if it has none, the Dockerfile's own.
            None => env(text).map(|value| (text.to_owned(), value)),
        });
        target.pairs(Id::Labels, "--label", &args.labels, &mut faults, |text| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            Some((name.to_owned(), value.to_owned()))
        });
        target.pairs(Id::ExtraHosts, "--add-host", &args.add_hosts, &mut faults, |text| {
            let (name, address) = text.split_once('=').or_else(|| text.split_once(':'))?;
            Some((name.to_owned(), address.to_owned()))
        });
        target.list(Id::Policy, "--policy", &args.policies);
        target.list(Id::Annotations, "--annotation", &args.annotations);
        target.list(Id::Attest, "--attest", &args.attests);
        target.list(Id::Tags, "--tag", &args.tags);
        target.list(Id::CacheFrom, "--cache-from", &args.cache_from);
        target.list(Id::CacheTo, "--cache-to", &args.cache_to);
        target.list(Id::Secret, "--secret", &args.secrets);
        target.list(Id::Ssh, "--ssh", &args.ssh);
        let default = env("DOCKER_DEFAULT_PLATFORM").filter(|text| args.platforms.is_empty() && !text.is_empty());
        let flag = if default.is_some() { "DOCKER_DEFAULT_PLATFORM" } else { "--platform" };
        let platforms = args.platforms.iter().chain(&default).flat_map(|text| text.split(','));
        target.list(Id::Platforms, flag, &platforms.map(str::to_owned).collect::<Vec<_>>());
        target.list(Id::Ulimits, "--ulimit", &args.ulimits);
        let stages: Vec<String> =
            args.no_cache_filters.iter().flat_map(|text| text.split(',')).map(str::to_owned).collect();
        target.list(Id::NoCacheFilter, "--no-cache-filter", &stages);
        target.text(Id::Target, "--target", args.target.as_deref());
        target.text(Id::ShmSize, "--shm-size", args.shm_size.as_deref());
        target.text(Id::Network, "--network", args.network.as_deref());
        target.outputs(args, default_output);
        target.limits(args, &mut faults);
        target.entitlements(args);
        if faults.is_empty() { Ok(target) } else { Err(faults) }
    }

    /// The context and the Dockerfile.
    fn inputs(&mut self, args: &BuildArgs, context: &ContextArg, stdin: Option<&StdinInput>) {
        const CONTEXT: &str = "context";
        let text = match (context, stdin) {
            (ContextArg::Folder(path), _) => path.clone(),
            (ContextArg::Url(url), _) => url.clone(),
            (ContextArg::Image(name), _) => ContextSource::built_text(name),
            (ContextArg::Stdin, Some(StdinInput::Archive(digest))) => ContextSource::archive_text(&digest.to_string()),
            (ContextArg::Stdin, _) => "docker-image://scratch".to_owned(),
        };
        self.text(Id::Context, CONTEXT, Some(&text));
        if let Some(StdinInput::Dockerfile(text)) = stdin {
            return self.text(Id::DockerfileInline, "standard input", Some(text));
        }
        let Some(file) = args.file.as_deref() else { return };
        let inside = match context {
            _ if DockerfileInput::is_url(file) => file.to_owned(),
            // It is relative to the working directory; below the context it is shown as that of a bake file would be.
            ContextArg::Folder(folder) => {
                let (folder, path) = (clean(folder), clean(file));
                let inside = if folder == "." {
                    Some(path.as_str()).filter(|path| !path.starts_with(['/', '.']))
                } else {
                    path.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/'))
                };
                inside.map_or_else(|| format!("cwd://{path}"), str::to_owned)
            }
            ContextArg::Url(_) | ContextArg::Stdin | ContextArg::Image(_) => file.to_owned(),
        };
        self.text(Id::Dockerfile, "--file", Some(&inside));
    }

    /// What is asked for by `--output`, or `default` if the ID of an image is wanted and nothing else is.
    fn outputs(&mut self, args: &BuildArgs, default: Option<&str>) {
        let is_plain = args.push.is_none() && args.load.is_none() && args.outputs.is_empty();
        let wants_id = args.iidfile.is_some() || args.is_quiet();
        if let Some(default) = default.filter(|_| is_plain && wants_id && args.call.is_none() && args.check.is_none()) {
            let flag = if args.iidfile.is_some() { "--iidfile" } else { "--quiet" };
            let output = FlagText { flag, text: default.to_owned() };
            return self.attributes.push((Id::Output, AttributeArgs::List(vec![output])));
        }
        self.list(Id::Output, "--output", &args.outputs);
    }

    fn limits(&mut self, args: &BuildArgs, faults: &mut Vec<Diagnostic>) {
        let mut all = split_pairs("--resource", &args.resources, faults, |text| {
            text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        });
        for (name, flag, value) in args.limits.each() {
            if let Some(value) = value {
                let given = FlagText { flag, text: value.to_owned() };
                all.push(FlagPair { given, name: name.to_owned(), value: value.to_owned() });
            }
        }
        if !all.is_empty() {
            self.attributes.push((Id::Resources, AttributeArgs::Pairs(all)));
        }
    }

    /// What `--allow` allows the build asks for as well; `--network=host` is allowed by being asked for, as by the peer.
    fn entitlements(&mut self, args: &BuildArgs) {
        let is_entitlement = |text: &&String| {
            let key = text.split_once('=').map_or(text.as_str(), |(key, _)| key);
            matches!(key, "network.host" | "security.insecure" | "device")
        };
        let mut all: Vec<String> = args.allows.iter().filter(is_entitlement).cloned().collect();
        if args.network.as_deref() == Some("host") {
            all.push("network.host".to_owned());
        }
        let mut seen = HashSet::new();
        all.retain(|text| seen.insert(text.clone()));
        self.list(Id::Entitlements, "--allow", &all);
    }

    /// The platforms of an image that was built before: all of them are exported, unless some were asked for.
    pub(crate) fn use_platforms(&mut self, recorded: &[String]) {
        if !self.attributes.iter().any(|(id, _)| *id == Id::Platforms) && recorded.len() > 1 {
            self.list(Id::Platforms, "context", recorded);
        }
    }

    fn text(&mut self, id: Id, flag: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.attributes.push((id, AttributeArgs::Text(FlagText { flag, text: text.to_owned() })));
        }
    }

    fn list(&mut self, id: Id, flag: &'static str, texts: &[String]) {
        if !texts.is_empty() {
            let all = texts.iter().map(|text| FlagText { flag, text: text.clone() }).collect();
            self.attributes.push((id, AttributeArgs::List(all)));
        }
    }

    fn pairs(
        &mut self,
        id: Id,
        flag: &'static str,
        texts: &[String],
        faults: &mut Vec<Diagnostic>,
        split: impl Fn(&str) -> Option<(String, String)>,
    ) {
        // A build argument without a value, here or in the environment, is one that is not given.
        let is_given = |text: &&String| id != Id::Args || text.contains('=') || split(text).is_some();
        let given: Vec<String> = texts.iter().filter(is_given).cloned().collect();
        let all = split_pairs(flag, &given, faults, split);
        if !all.is_empty() {
            self.attributes.push((id, AttributeArgs::Pairs(all)));
        }
    }

    /// The attributes that the arguments give, in the order of the table of attributes.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (Id, &AttributeArgs)> {
        self.attributes.iter().map(|(id, args)| (*id, args))
    }

    /// The definition with this target; each argument becomes a source of its own.
    pub(crate) fn definition(&self, sources: &mut SourceMap) -> Definition {
        let nowhere = whole(sources, "bake build", "");
        let attributes = self.attributes.iter().map(|(id, args)| {
            let expr = args.expr(sources, nowhere);
            AttributeSyntax { name: Spanned::new(id.row().name.into(), expr.at), expr }
        });
        let body = Body { attributes: attributes.collect(), blocks: Vec::new(), at: nowhere };
        let labels = vec![Spanned::new(TARGET.into(), nowhere)];
        let block = Block { kind: Spanned::new("target".into(), nowhere), labels, body, at: nowhere };
        let file = Body { attributes: Vec::new(), blocks: vec![block], at: nowhere };
        Definition { files: vec![file], ..Definition::default() }
    }
}

impl AttributeArgs {
    fn expr(&self, sources: &mut SourceMap, nowhere: Span) -> Expr {
        match self {
            Self::Text(given) => given.expr(sources),
            Self::List(all) => {
                let items: Vec<Expr> = all.iter().map(|given| given.expr(sources)).collect();
                let at = items.first().map_or(nowhere, |item| item.at);
                Expr::new(ExprKind::Tuple(items), at)
            }
            Self::Pairs(all) => {
                let pairs = all.iter().map(|pair| {
                    let at = pair.given.expr(sources).at;
                    let value = pair.given.text.len().saturating_sub(pair.value.len());
                    let value = Span { start: at.start + u32::try_from(value).unwrap_or(0), ..at };
                    (Expr::text(pair.name.as_str(), at), Expr::text(pair.value.as_str(), value))
                });
                let pairs: Vec<(Expr, Expr)> = pairs.collect();
                let at = pairs.first().map_or(nowhere, |(name, _)| name.at);
                Expr::new(ExprKind::Object(pairs), at)
            }
        }
    }
}

impl FlagText {
    fn expr(&self, sources: &mut SourceMap) -> Expr {
        Expr::text(self.text.as_str(), whole(sources, self.flag, &self.text))
    }
}

impl BuildArgs {
    /// Whether only errors and the ID of the image are shown. A value that is no boolean is reported by `Settings`.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.as_deref().is_some_and(|text| crate::spec::boolean(text).unwrap_or(false))
    }

    /// What the arguments want of standard input.
    ///
    /// # Errors
    /// When both the context and the Dockerfile would be read from there.
    pub(crate) fn stdin_use(&self, context: &ContextArg) -> Result<StdinUse, Box<Diagnostic>> {
        match (context, self.file.as_deref()) {
            (ContextArg::Stdin, Some("-")) => Err(Box::new(
                Diagnostic::error(
                    "bake::cli::stdin_twice",
                    "invalid argument: can't use stdin for both build context and dockerfile",
                )
                .help("give one of them as a path"),
            )),
            (ContextArg::Stdin, None) => Ok(StdinUse::Either),
            (ContextArg::Stdin, Some(_)) => Ok(StdinUse::Context),
            (_, Some("-")) => Ok(StdinUse::Dockerfile),
            (_, _) => Ok(StdinUse::None),
        }
    }

    /// The flags that were given and mean nothing for an image that was built already.
    pub(crate) fn without_effect_on_image(&self) -> Vec<&'static str> {
        let all = [
            ("--file", self.file.is_some()),
            ("--target", self.target.is_some()),
            ("--build-arg", !self.build_args.is_empty()),
            ("--build-context", !self.build_contexts.is_empty()),
            ("--secret", !self.secrets.is_empty()),
            ("--ssh", !self.ssh.is_empty()),
            ("--label", !self.labels.is_empty()),
            ("--add-host", !self.add_hosts.is_empty()),
            ("--network", self.network.is_some()),
            ("--no-cache", self.no_cache.is_some()),
            ("--no-cache-filter", !self.no_cache_filters.is_empty()),
            ("--cache-from", !self.cache_from.is_empty()),
            ("--cache-to", !self.cache_to.is_empty()),
            ("--pull", self.pull.is_some()),
            ("--call", self.call.is_some()),
            ("--check", self.check.is_some()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }
}

/// Splits `NAME=VALUE` arguments.
fn split_pairs(
    flag: &'static str,
    texts: &[String],
    faults: &mut Vec<Diagnostic>,
    split: impl Fn(&str) -> Option<(String, String)>,
) -> Vec<FlagPair> {
    let mut all = Vec::new();
    for text in texts {
        match split(text) {
            Some((name, value)) if !name.is_empty() => {
                all.push(FlagPair { given: FlagText { flag, text: text.clone() }, name, value });
            }
            _ => {
                let form = if flag == "--add-host" { "NAME:ADDRESS" } else { "NAME=VALUE" };
                let fault = Diagnostic::error("bake::cli::bad_pair", format!("`{flag}` wants {form}: {text}"));
                faults.push(fault.help(format!("write {flag} {form}")));
            }
        }
    }
    all
}

/// Adds a text and gives the span over all of it.
fn whole(sources: &mut SourceMap, name: &str, text: &str) -> Span {
    let source = sources.add(name, text);
    Span { source, start: 0, end: u32::try_from(text.len()).unwrap_or(u32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_positional_argument_is_a_folder_a_url_or_an_image() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("app")).expect("writable");
        std::fs::write(folder.path().join("file"), "").expect("writable");
        let parse = |text: Option<&str>| ContextArg::parse(text, folder.path()).map_err(|fault| fault.message);
        assert_eq!(parse(None), Ok(ContextArg::Folder(".".to_owned())));
        assert_eq!(parse(Some("app")), Ok(ContextArg::Folder("app".to_owned())));
        assert_eq!(parse(Some("-")), Ok(ContextArg::Stdin));
        assert_eq!(parse(Some("https://h/x.git#v1")), Ok(ContextArg::Url("https://h/x.git#v1".to_owned())));
        assert_eq!(parse(Some("web:1")), Ok(ContextArg::Image("web:1".to_owned())));
        assert_eq!(parse(Some("./web")), Err("unable to prepare context: path \"./web\" not found".to_owned()));
        assert_eq!(parse(Some("file")), Err("unable to prepare context: not a directory: file".to_owned()));
    }
}
