//! Build arguments: the variables that FROM sees, ARG in stages, proxies, `SOURCE_DATE_EPOCH`
//! (<https://docs.docker.com/reference/dockerfile/#arg>).

use indexmap::IndexMap;

use super::{
    lowerer::{Lowerer, bad_expansion},
    state::StageState,
};
use crate::{
    dockerfile::{
        check,
        expand::{self, ExpandMode, Vars},
        instruction::{ArgDef, Instruction, InstructionKind, ParsedDockerfile},
        options::{EpochOption, LowerOptions, NamedContext},
    },
    report::{Diagnostic, hidden::MASK, suggest},
    spec,
};

const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

const EPOCH_HELP: &str = "write seconds since 1970, `context`, or the name of a git repository or download: a named context or a stage that adds one";

/// What the names of arguments begin with that steer the build itself, and that no file declares.
const STEERING: &str = "BUILDKIT_";

/// Those that mean something here.
const KNOWN_STEERING: &[&str] = &[
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX",
    SCAN_CONTEXT,
    SCAN_STAGE,
];

const PROXIES: &[&str] = &["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Arguments that are declared and never become variables: whether the scanner of an sbom sees the context, and a stage.
pub(super) const SCAN_CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";
pub(super) const SCAN_STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";

/// Whether an argument may be declared but never becomes a variable.
pub(super) fn is_never_set(name: &str) -> bool {
    matches!(name, SCAN_CONTEXT | SCAN_STAGE)
}

/// Whether the value of such an argument chooses a stage: a boolean, or a list of stages.
pub(super) fn is_scan_wanted(value: Option<&str>, stage: &str) -> bool {
    value.is_some_and(|value| spec::boolean(value).unwrap_or_else(|_| value.split(',').any(|name| name == stage)))
}

/// The variables that every file has, in their order.
fn automatic(file: &ParsedDockerfile, options: &LowerOptions) -> Vars {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let (build, target) = (&options.build_platform, &options.platform);
    let stage = options.target.clone().filter(|it| !it.is_empty());
    let last = || file.stages.last().and_then(|it| it.name.as_ref()).map(|it| it.value.clone());
    let list = [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", text(&build.os_version)),
        ("BUILDARCH", build.arch.clone()),
        ("BUILDVARIANT", text(&build.variant)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", text(&target.os_version)),
        ("TARGETARCH", target.arch.clone()),
        ("TARGETVARIANT", text(&target.variant)),
        ("TARGETSTAGE", stage.or_else(last).unwrap_or_else(|| "default".to_owned())),
    ];
    let mut vars = Vars::with_capacity(list.len() + file.globals.len());
    for (name, value) in list {
        vars.insert(name.to_owned(), options.build_args.get(name).cloned().unwrap_or(value));
    }
    vars
}

/// Adds the ARGs before the first stage, with these build arguments.
fn add_globals(
    vars: &mut Vars,
    file: &ParsedDockerfile,
    given: Option<&IndexMap<String, String>>,
) -> Result<(), Diagnostic> {
    for it in &file.globals {
        let InstructionKind::Arg(args) = &it.kind else { continue };
        for arg in args {
            let value = match (given.and_then(|given| given.get(&arg.name)), &arg.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => {
                    let expanded = expand::expand(default, vars, file.escape, ExpandMode::Word);
                    Some(expanded.map_err(|why| bad_expansion(&why, default, arg.at))?.text)
                }
                (None, None) => None,
            };
            if let Some(value) = value {
                vars.insert(arg.name.clone(), value);
            }
        }
    }
    Ok(())
}

/// A parsed value of `SOURCE_DATE_EPOCH`.
fn read_epoch(value: &str, file: &ParsedDockerfile, options: &LowerOptions) -> Result<Option<EpochOption>, Diagnostic> {
    if value.is_empty() {
        return Ok(None);
    }
    if let Ok(seconds) = value.parse::<i64>() {
        return Ok(Some(EpochOption::Seconds(seconds)));
    }
    let is_stage = file.stages.iter().filter_map(|it| it.name.as_ref()).any(|it| it.value == value.to_lowercase());
    match (value, options.contexts.get(value)) {
        ("context", _) => Ok(Some(EpochOption::MainContext)),
        (_, Some(NamedContext::Built(_))) => {
            let message = format!("SOURCE_DATE_EPOCH names the result of another build, which has no time: {value}");
            Err(Diagnostic::error("bake::dockerfile::bad_epoch", message).help(EPOCH_HELP))
        }
        (name, Some(_)) => Ok(Some(EpochOption::Named(name.to_owned()))),
        (name, None) if is_stage => Ok(Some(EpochOption::Named(name.to_owned()))),
        _ => {
            let message = format!("invalid SOURCE_DATE_EPOCH, not a number of seconds nor a context: {value}");
            Err(Diagnostic::error("bake::dockerfile::bad_epoch", message).help(EPOCH_HELP))
        }
    }
}

/// The value of `SOURCE_DATE_EPOCH`, if a build argument or the Dockerfile gives it one that is right. What is wrong with
/// another one is told when the file is lowered.
pub(crate) fn epoch_option(file: &ParsedDockerfile, options: &LowerOptions) -> Option<EpochOption> {
    let is_declared = |it: &Instruction| matches!(&it.kind, InstructionKind::Arg(args) if args.iter().any(|arg| arg.name == SOURCE_DATE_EPOCH));
    let value = match options.build_args.get(SOURCE_DATE_EPOCH) {
        Some(given) => given.clone(),
        None if file.globals.iter().any(is_declared) => {
            let mut vars = automatic(file, options);
            add_globals(&mut vars, file, Some(&options.build_args)).ok()?;
            vars.get(SOURCE_DATE_EPOCH)?.clone()
        }
        None => return None,
    };
    read_epoch(&value, file, options).ok().flatten()
}

impl<'a> Lowerer<'a, '_> {
    /// Sets the variables that FROM sees: the automatic ones, then the ARGs before the first stage with the values
    /// given.
    pub(super) fn define_globals(&mut self) {
        self.globals = automatic(self.file, self.options);
        let file: &'a ParsedDockerfile = self.file;
        for it in &file.globals {
            if let InstructionKind::Arg(args) = &it.kind {
                self.global_names.extend(args.iter().map(|it| it.name.as_str()));
            }
        }
        if let Err(fault) = add_globals(&mut self.globals, file, Some(&self.options.build_args)) {
            self.faults.push(fault);
        }
        self.define_epoch();
    }

    fn define_epoch(&mut self) {
        let given = self.options.build_args.get(SOURCE_DATE_EPOCH);
        let Some(value) = given.or_else(|| self.globals.get(SOURCE_DATE_EPOCH).filter(|it| !it.is_empty())) else {
            return;
        };
        self.epoch = match read_epoch(value, self.file, self.options) {
            Ok(Some(EpochOption::Seconds(seconds))) => Some(seconds),
            Ok(Some(_)) => self.options.source_date_epoch,
            Ok(None) => None,
            Err(fault) => {
                self.faults.push(fault);
                None
            }
        };
        let text = self.epoch.map(|it| it.to_string());
        if self.globals.contains_key(SOURCE_DATE_EPOCH) {
            match &text {
                Some(text) => drop(self.globals.insert(SOURCE_DATE_EPOCH.to_owned(), text.clone())),
                None => drop(self.globals.shift_remove(SOURCE_DATE_EPOCH)),
            }
        }
        self.epoch_text = Some(text);
    }

    /// The variables of FROM if no build argument were given; `None` if they have faults or no FROM has variables.
    pub(super) fn default_globals(&self) -> Option<Vars> {
        if !self.file.stages.iter().any(|it| it.image.value.contains('$')) {
            return None;
        }
        let mut vars = automatic(self.file, self.options);
        add_globals(&mut vars, self.file, None).ok().map(|()| vars)
    }

    fn build_arg(&self, name: &str) -> Option<String> {
        match &self.epoch_text {
            Some(text) if name == SOURCE_DATE_EPOCH && self.options.build_args.contains_key(name) => text.clone(),
            _ => self.options.build_args.get(name).cloned(),
        }
    }

    /// ARG in a stage: sets each variable to the build argument, else its default, else the value of the ARG of that
    /// name before the first stage.
    ///
    /// Names that look like secrets are reported (check `SecretsUsedInArgOrEnv`); values of hidden arguments are masked
    /// in the history. See <https://docs.docker.com/reference/dockerfile/#arg>.
    ///
    /// # Errors
    /// When a variable in a default cannot be expanded.
    pub(super) fn arg(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        args: &[ArgDef],
    ) -> Result<(), Diagnostic> {
        let mut text = String::from("ARG");
        for arg in args {
            check::secrets_used_in_arg_or_env::check_name(&mut self.report, instruction, &arg.name);
            let before = std::mem::replace(&mut self.is_guess, false);
            let value = match (self.build_arg(&arg.name), &arg.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(self.text(state, instruction, default, arg.at, ExpandMode::Word)?),
                (None, None) => self.globals.get(&arg.name).cloned(),
            };
            text.push(' ');
            text.push_str(&arg.name);
            if let Some(value) = &value {
                text.push('=');
                text.push_str(if self.options.hidden_args.contains(&arg.name) { MASK } else { value });
                if !is_never_set(&arg.name) {
                    state.set(&arg.name, value, self.is_guess);
                }
            }
            self.is_guess |= before;
            state.args.insert(arg.name.clone(), value);
        }
        state.note(&text);
        Ok(())
    }

    /// The proxy variables that a RUN gets without declaring them: those given as build arguments, in upper and lower
    /// case, unless the stage sets them (<https://docs.docker.com/reference/dockerfile/#predefined-args>).
    pub(super) fn proxies(&self, state: &StageState) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for name in PROXIES {
            let given = self.options.build_args.iter().rfind(|(it, _)| it.eq_ignore_ascii_case(name));
            let Some((_, value)) = given else { continue };
            for spelled in [name.to_ascii_uppercase(), (*name).to_owned()] {
                if !state.env.contains_key(&spelled) {
                    out.push((spelled, value.clone()));
                }
            }
        }
        out
    }

    /// One warning for each build argument that nothing in the file declares.
    pub(super) fn unused_args(&self) -> Vec<Diagnostic> {
        if self.options.build_args.is_empty() {
            return Vec::new();
        }
        let automatic = automatic(self.file, self.options);
        let in_stages = self.file.stages.iter().flat_map(|it| &it.instructions);
        let mut declared = self.global_names.clone();
        for it in in_stages {
            if let InstructionKind::Arg(args) = &it.kind {
                declared.extend(args.iter().map(|it| it.name.as_str()));
            }
        }
        declared.extend(self.declared.iter().map(String::as_str));
        let known = |name: &str| {
            declared.contains(name)
                || automatic.contains_key(name)
                || name == SOURCE_DATE_EPOCH
                || KNOWN_STEERING.contains(&name)
                || PROXIES.iter().any(|it| name.eq_ignore_ascii_case(it))
        };
        let unused = self.options.build_args.keys().filter(|name| !known(name));
        let has_unread_base = self.based.iter().flatten().any(|it| it.is_assumed);
        unused
            .map(|name| {
                if name.starts_with(STEERING) {
                    let message =
                        format!("build argument has no effect in this engine, and no ARG declares it: {name}");
                    return Diagnostic::warning("bake::dockerfile::unused_build_arg", message);
                }
                let message = format!("build argument is not declared by any ARG: {name}");
                let warning = Diagnostic::warning("bake::dockerfile::unused_build_arg", message);
                match suggest::did_you_mean(name, declared.iter().copied()) {
                    Some(help) => warning.help(help),
                    None if has_unread_base => {
                        warning.help("unless ONBUILD of a base image does, which was not read: remove it")
                    }
                    None => warning,
                }
            })
            .collect()
    }
}
