//! Settings: the command line and the environment, resolved once. Nothing else reads the environment.
//! Which variables there are is said in `environment.rs`.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    args::{OnErrorArg, PlanArgs, ProgressArg, RunArgs},
    builder_choice::{BuilderChoice, connect_setup},
    command_line::CommandLineTarget,
    commands::image_id::ImageIdWanted,
    environment,
    plugin::Invocation,
};
use crate::{
    grant::PastTree,
    report::{Diagnostic, suggest},
    sandbox,
    spec::{self, ExecutionMode, StepLogLimits, boolean, context, entitlement::Grant},
    store::{HomeChoice, HomeDir, SpaceLimits},
};

/// The environment variables of the process, by name.
pub(crate) type Environment = BTreeMap<String, String>;

/// Everything that the command line and the environment decide.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The process environment; variables that are not UTF-8 are left out.
    pub(crate) env: BTreeMap<String, String>,
    /// Definition files; empty means the default names.
    pub(crate) files: Vec<String>,
    /// The flag or variable that named them, for messages.
    pub(crate) files_named_by: &'static str,
    /// URL of the definition.
    pub(crate) remote: Option<String>,
    pub(crate) names: Vec<String>,
    pub(crate) vars: BTreeMap<String, String>,
    /// Variables files, in the order given.
    pub(crate) var_files: Vec<String>,
    /// Overrides: the flag that gave each, for messages, and its text.
    pub(crate) overrides: Vec<(String, String)>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) call: CallOptions,
    pub(crate) strict: bool,
    pub(crate) relative_paths: bool,
    pub(crate) no_env_lookup: bool,
    pub(crate) check_fs_entitlements: bool,
    pub(crate) cmd_context: String,
    /// The namespace of cache mounts that all builds of the run have; `None`: it depends on where their content comes from.
    pub(crate) cache_namespace: Option<String>,
    pub(crate) source_date_epoch: Option<String>,
    /// `BUILDX_NO_DEFAULT_ATTESTATIONS`: nothing is attested unless a target asks for it.
    pub(crate) no_default_attestations: bool,
    pub(crate) home: String,
    /// Absolute.
    pub(crate) cwd: PathBuf,
    /// The state directory.
    pub(crate) bake_home: HomeDir,
    pub(crate) color: bool,
    pub(crate) now: (i64, u32),
    pub(crate) random: [u8; 32],
    pub(crate) progress: ProgressArg,
    /// How steps are run.
    pub(crate) sandbox: sandbox::SandboxOptions,
    /// How much output of a step is shown.
    pub(crate) step_log: StepLogLimits,
    /// The room that the state directory may take.
    pub(crate) space: SpaceLimits,
    /// `None` is the number of cores.
    pub(crate) jobs: Option<usize>,
    /// When results become visible; `None` leaves it to the groups of the definition.
    pub(crate) execution: Option<ExecutionMode>,
    /// Where the plan is built.
    pub(crate) builder: BuilderChoice,
    pub(crate) metadata_file: Option<PathBuf>,
    /// What becomes of a step that fails.
    pub(crate) on_error: OnErrorArg,
    /// As in [`Input`](crate::eval::input::Input).
    pub(crate) loads_by_default: bool,
    /// The target of `bake build`: the definition is made of it instead of files.
    pub(crate) command_line: Option<Arc<CommandLineTarget>>,
    /// Where `bake build` writes the ID of its image.
    pub(crate) image_id: ImageIdWanted,
    /// The state of the work tree that the definition and the Dockerfiles are read from, if it is not the one on the disk.
    pub(crate) past: Option<Arc<PastTree>>,
    /// The definition was read before, for a choice among its targets, and its warnings were shown.
    pub(crate) has_warned: bool,
    /// Warnings found while reading them.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// How the result of `--call` is shown; the method itself is an override.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallOptions {
    pub(crate) json: bool,
    pub(crate) ignore_status: bool,
}

/// The process environment; variables that are not UTF-8 are left out.
pub(crate) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The state directory: `BAKE_HOME`, else `bake` in the XDG cache folder; and those of `BAKE_CACHE_FROM_DIR`, which are only
/// read.
pub(crate) fn bake_home(env: &BTreeMap<String, String>) -> HomeDir {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let lower = set("BAKE_CACHE_FROM_DIR").map(String::as_str).unwrap_or_default().split(':');
    let lower = lower.filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    let path = match (set("BAKE_HOME"), set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(path), _, _) => return HomeDir { path: PathBuf::from(path), choice: HomeChoice::Named, lower },
        (None, Some(cache), _) => PathBuf::from(cache).join("bake"),
        (None, None, Some(home)) => PathBuf::from(home).join(".cache/bake"),
        (None, None, None) => PathBuf::from("/var/cache/bake"),
    };
    HomeDir { path, choice: HomeChoice::Default, lower }
}

/// Whether messages may have colour.
pub(crate) fn color(env: &BTreeMap<String, String>) -> bool {
    let off = env.get("NO_COLOR").is_some_and(|it| !it.is_empty())
        || env.get("CLICOLOR").is_some_and(|it| it == "0")
        || env.get("TERM").is_some_and(|it| it == "dumb");
    !off
}

impl Settings {
    /// Resolves arguments and environment.
    ///
    /// # Errors
    /// Every fault of the arguments and the environment.
    pub(crate) fn new(
        plan: PlanArgs,
        run: Option<RunArgs>,
        env: BTreeMap<String, String>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let mut warnings = Vec::new();
        let switches = environment::Switches::new(&env, &mut faults, &mut warnings);
        let (files, files_named_by) = definition_files(&plan, &env);
        let Positional { remote, cmd_context, names } = Positional::new(&plan.targets);
        let vars = variables(&plan.vars, &mut faults);
        let (overrides, call) = overrides(&plan, &mut faults);
        let grants: Vec<Grant> = plan.allows.iter().filter_map(|text| grant(text, &mut faults)).collect();
        warnings.extend(without_effect(&grants));
        let cwd = working_directory(&mut faults);
        let progress =
            run.as_ref().and_then(|it| it.progress).unwrap_or_else(|| environment::progress(&env, &mut faults));
        let mut sandbox = environment::sandbox_options(&env, &mut faults);
        sandbox.memory_limit = run.as_ref().and_then(|run| run.max_memory);
        let space = environment::space_limits(&env, &mut faults);
        let step_log = environment::step_log(&env, &mut faults);
        let random = random(&mut faults);
        let execution =
            environment::execution(run.as_ref().and_then(|run| run.execution.as_deref()), &env, &mut faults);
        let flags = run.as_ref().map(|run| run.builder.builders.as_slice());
        let builder = flags.map(|flags| BuilderChoice::new(flags, &env, &mut faults)).unwrap_or_default();
        if !faults.is_empty() {
            return Err(faults);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            files,
            files_named_by,
            check_fs_entitlements: switches.check_fs_entitlements && !(switches.allow_remote_fs && remote.is_some()),
            remote,
            names,
            vars,
            var_files: plan.var_files,
            overrides,
            grants,
            call,
            strict: plan.strict,
            relative_paths: switches.relative_paths,
            no_env_lookup: switches.no_env_lookup,
            cmd_context,
            cache_namespace: plan
                .cache_namespace
                .or_else(|| env.get("BAKE_CACHE_NAMESPACE").cloned())
                .filter(|name| !name.is_empty()),
            source_date_epoch: env.get("SOURCE_DATE_EPOCH").filter(|it| !it.is_empty()).cloned(),
            no_default_attestations: env
                .get("BUILDX_NO_DEFAULT_ATTESTATIONS")
                .is_some_and(|text| boolean(text).unwrap_or(false)),
            home: env.get("HOME").cloned().unwrap_or_default(),
            bake_home: {
                let HomeDir { path, choice, lower } = bake_home(&env);
                HomeDir { path: cwd.join(path), choice, lower: lower.iter().map(|path| cwd.join(path)).collect() }
            },
            cwd,
            color: color(&env),
            now: (i64::try_from(now.as_secs()).unwrap_or(i64::MAX), now.subsec_nanos()),
            random,
            progress,
            sandbox,
            step_log,
            space,
            jobs: run.as_ref().and_then(|it| it.jobs).map(std::num::NonZero::get),
            execution,
            builder,
            metadata_file: run.as_ref().and_then(|it| it.metadata_file.clone()).map(PathBuf::from),
            on_error: run.as_ref().map(|it| it.on_error).unwrap_or_default(),
            loads_by_default: false,
            command_line: None,
            image_id: ImageIdWanted::default(),
            env,
            past: None,
            has_warned: false,
            warnings,
        })
    }
}

impl Settings {
    /// Takes into account how the program was called.
    pub(super) fn choose_builder_of(&mut self, invocation: Invocation) {
        if invocation == Invocation::Plugin && self.builder != BuilderChoice::Embedded {
            let (builder, warning) = std::mem::take(&mut self.builder).of_plugin(&connect_setup(&self.env));
            self.builder = builder;
            self.warnings.extend(warning);
        }
    }
}

/// Positional arguments: `[URL [CONTEXT URL]] TARGET...`.
struct Positional {
    /// URL of the definition.
    remote: Option<String>,
    cmd_context: String,
    names: Vec<String>,
}

impl Positional {
    fn new(arguments: &[String]) -> Self {
        let mut names = arguments.to_vec();
        let remote = names.first().filter(|name| is_url(name)).cloned();
        let mut cmd_context = "cwd://".to_owned();
        if remote.is_some() {
            names.remove(0);
            if names.first().is_some_and(|name| is_url(name)) {
                cmd_context = names.remove(0);
            }
        }
        Self { remote, cmd_context, names }
    }
}

fn working_directory(faults: &mut Vec<Diagnostic>) -> PathBuf {
    std::env::current_dir().unwrap_or_else(|error| {
        faults.push(Diagnostic::error("bake::cli::no_cwd", "the working directory cannot be found").cause(&error));
        PathBuf::from("/")
    })
}

fn random(faults: &mut Vec<Diagnostic>) -> [u8; 32] {
    let mut random = [0; 32];
    if let Err(error) = getrandom::fill(&mut random) {
        faults.push(Diagnostic::error("bake::cli::no_random", "the system gives no random numbers").cause(&error));
    }
    random
}

/// Whether a positional argument is the address of a definition or a context.
pub(crate) fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://") || context::is_git(text)
}

fn definition_files(plan: &PlanArgs, env: &BTreeMap<String, String>) -> (Vec<String>, &'static str) {
    if !plan.files.is_empty() {
        return (plan.files.clone(), "-f");
    }
    let separator = env.get("BUILDX_BAKE_PATH_SEPARATOR").filter(|it| !it.is_empty()).map_or(":", |it| it);
    let listed = env.get("BUILDX_BAKE_FILE").map(String::as_str).unwrap_or_default();
    let files = listed.split(separator).map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect();
    (files, "BUILDX_BAKE_FILE")
}

fn variables(arguments: &[String], faults: &mut Vec<Diagnostic>) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for argument in arguments.iter().filter(|it| !it.is_empty()) {
        match argument.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                vars.insert(name.to_owned(), value.to_owned());
            }
            _ => faults.push(
                Diagnostic::error("bake::cli::bad_var", format!("`--var` wants NAME=VALUE: {argument}")).help(
                    match argument.strip_prefix('=') {
                        Some(value) => format!("write --var NAME={value}"),
                        None => format!("write --var {argument}=VALUE"),
                    },
                ),
            ),
        }
    }
    vars
}

/// Warnings of flags that mean nothing to this engine.
fn without_effect(grants: &[Grant]) -> Vec<Diagnostic> {
    let is_device = |grant: &Grant| matches!(grant, Grant::Need(spec::Entitlement::Device(_)));
    let device = grants.iter().any(is_device).then(|| {
        let message = "`--allow device` has no effect: no step can use a device here";
        Diagnostic::warning("bake::cli::no_effect", message)
    });
    device.into_iter().collect()
}

fn grant(text: &str, faults: &mut Vec<Diagnostic>) -> Option<Grant> {
    match Grant::parse(text) {
        Ok(grant) => Some(grant),
        Err(fault) => {
            faults.push(environment::from_fault("bake::cli::bad_grant", "--allow", fault));
            None
        }
    }
}

/// `--set` first, then the shorthands in the peer's order.
fn overrides(plan: &PlanArgs, faults: &mut Vec<Diagnostic>) -> (Vec<(String, String)>, CallOptions) {
    let mut all: Vec<(String, String)> = plan.sets.iter().map(|text| ("--set".to_owned(), text.clone())).collect();
    let mut switch =
        |flag: &str, key: &str, value: Option<&String>, only_true: bool, all: &mut Vec<(String, String)>| {
            let Some(text) = value else { return };
            match boolean(text) {
                Ok(false) if only_true => (),
                Ok(on) => all.push((flag.to_owned(), format!("*.{key}={on}"))),
                Err(fault) => faults.push(environment::from_fault("bake::cli::bad_switch", flag, fault)),
            }
        };
    switch("--push", "push", plan.push.as_ref(), true, &mut all);
    switch("--load", "load", plan.load.as_ref(), true, &mut all);
    let mut call = CallOptions::default();
    let wanted = if plan.check { Some("check") } else { plan.call.as_deref() };
    let mut called: Vec<(String, String)> = Vec::new();
    let mut call_faults = Vec::new();
    if let Some(text) = wanted {
        match call_option(text) {
            Ok((method, options)) => {
                call = options;
                // `--print` shows the name by which the frontend of the peer knows a check.
                let method = if method == "check" { "lint" } else { &method };
                if !matches!(method, "" | "build") {
                    called.push(("--call".to_owned(), format!("*.call={method}")));
                }
            }
            Err(fault) => call_faults.push(environment::from_fault("bake::cli::bad_call", "--call", fault)),
        }
    }
    all.append(&mut called);
    switch("--no-cache", "no-cache", plan.no_cache.as_ref(), false, &mut all);
    switch("--pull", "pull", plan.pull.as_ref(), false, &mut all);
    for (flag, kind, value) in [("--sbom", "sbom", &plan.sbom), ("--provenance", "provenance", &plan.provenance)] {
        if let Some(text) = value.as_ref().filter(|text| !text.is_empty()) {
            let options = boolean(text).map_or_else(|_| text.clone(), |on| format!("disabled={}", !on));
            all.push((flag.to_owned(), format!("*.attest=type={kind},{options}")));
        }
    }
    faults.append(&mut call_faults);
    policies(&plan.policies, &mut all, faults);
    (all, call)
}

/// The call method as written, and the options behind it. An unknown method is reported by evaluation.
fn call_option(text: &str) -> Result<(String, CallOptions), spec::OptionFault> {
    let method = text.split(',').next().unwrap_or_default().to_owned();
    let known = text.replacen(&method, "build", 1);
    let read = spec::CallMethod::parse(if method.is_empty() { text } else { &known })?;
    Ok((method, CallOptions { json: read.json, ignore_status: read.ignore_status }))
}

fn policies(arguments: &[String], all: &mut Vec<(String, String)>, faults: &mut Vec<Diagnostic>) {
    let mut disabled = false;
    for text in arguments {
        match spec::Policy::parse(text) {
            Err(fault) => faults.push(environment::from_fault("bake::cli::bad_policy", "--policy", fault)),
            Ok(policy) => {
                for (key, given) in [("filename", policy.filename.is_some()), ("reset", policy.reset.is_some())] {
                    if given {
                        faults.push(
                            Diagnostic::error(
                                "bake::cli::bad_policy",
                                format!("`--policy` does not take `{key}`: {text}"),
                            )
                            .help("set it in the bake file, as in policy = [{ filename = \"policy.rego\" }]"),
                        );
                    }
                }
                disabled |= policy.disabled == Some(true);
                all.push(("--policy".to_owned(), format!("*.policy+={text}")));
            }
        }
    }
    if !disabled {
        return;
    }
    if arguments.len() > 1 || arguments.iter().any(|it| it.contains(',')) {
        faults.push(
            Diagnostic::error(
                "bake::cli::bad_policy",
                format!("`disabled=true` must be the only `--policy`: {}", arguments.join(" ")),
            )
            .help("drop the others"),
        );
        return;
    }
    if let Some(last) = all.last_mut() {
        last.1 = "*.policy=disabled=true".to_owned();
    }
}

/// What `--list` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListWhat {
    pub(crate) variables: bool,
    pub(crate) json: bool,
}

impl ListWhat {
    /// Reads `targets`, `variables` or `type=…,format=table|json`.
    ///
    /// # Errors
    /// Names the key or value that is not known.
    pub(crate) fn parse(text: &str) -> Result<Self, Box<Diagnostic>> {
        let error = |message: String, known: &[&str], given: &str| {
            let help = suggest::did_you_mean(given, known.iter().copied())
                .unwrap_or_else(|| format!("known: {}", known.join(", ")));
            Box::new(Diagnostic::error("bake::cli::bad_list", message).help(help))
        };
        const TYPES: [&str; 2] = ["targets", "variables"];
        let fields = spec::csv::fields(text)
            .map_err(|fault| Box::new(environment::from_fault("bake::cli::bad_list", "--list", fault)))?;
        let mut what: Option<bool> = None;
        let mut json = false;
        for field in &fields {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, value),
                None if fields.len() == 1 => ("type", field.as_str()),
                None => {
                    return Err(error(
                        format!("`{field}` is not `key=value` in `--list`: {text}"),
                        &["type", "format"],
                        field,
                    ));
                }
            };
            match (key, value) {
                ("type", "targets") => what = Some(false),
                ("type", "variables") => what = Some(true),
                ("type", other) => return Err(error(format!("`--list` knows no: {other}"), &TYPES, other)),
                ("format", "table" | "") => json = false,
                ("format", "json") => json = true,
                ("format", other) => {
                    return Err(error(format!("`--list` knows no format: {other}"), &["table", "json"], other));
                }
                (other, _) => return Err(error(format!("`--list` has no key: {other}"), &["type", "format"], other)),
            }
        }
        let variables = what.ok_or_else(|| error(format!("`--list` wants a type: {text}"), &TYPES, ""))?;
        Ok(Self { variables, json })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::Bake;

    fn settings(arguments: &[&str], env: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let bake = Bake::try_parse_from([&["bake"], arguments].concat()).expect("good arguments");
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::new(bake.plan, Some(bake.run), env).map_err(|all| all.into_iter().map(|it| it.message).collect())
    }

    #[test]
    fn shorthands_follow_the_users_own_overrides() {
        let arguments =
            ["--pull", "--check", "--push", "--sbom=false", "--no-cache=false", "--load=0", "--set", "a.tags=x", "a"];
        let all = settings(&arguments, &[]).expect("good").overrides;
        let texts: Vec<&str> = all.iter().map(|(_, text)| text.as_str()).collect();
        let expected = [
            "a.tags=x",
            "*.push=true",
            "*.call=lint",
            "*.no-cache=false",
            "*.pull=true",
            "*.attest=type=sbom,disabled=true",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn files_come_from_the_command_line_or_the_environment() {
        let env = [("BUILDX_BAKE_FILE", " a.hcl; ;b.hcl"), ("BUILDX_BAKE_PATH_SEPARATOR", ";")];
        assert_eq!(settings(&[], &env).expect("good").files, ["a.hcl", "b.hcl"]);
        assert_eq!(settings(&["-f", "-"], &env).expect("good").files, ["-"]);
    }

    #[test]
    fn a_definition_by_url_may_have_a_context_by_url() {
        let found = settings(&["https://h/a.git#v1", "https://h/b.git", "web"], &[]).expect("good");
        assert_eq!(found.remote.as_deref(), Some("https://h/a.git#v1"));
        assert_eq!((found.cmd_context.as_str(), found.names), ("https://h/b.git", vec!["web".to_owned()]));
    }

    #[test]
    fn faults_name_the_argument() {
        let faults = |arguments: &[&str]| settings(arguments, &[]).expect_err("bad");
        assert_eq!(faults(&["--var", "A"]), ["`--var` wants NAME=VALUE: A"]);
        assert_eq!(faults(&["--allow", "world.peace"]), ["`--allow`: unknown entitlement: world.peace"]);
        assert_eq!(faults(&["--policy", "filename=x"]), ["`--policy` does not take `filename`: filename=x"]);
        assert_eq!(faults(&["--push=perhaps"]), ["`--push`: not a boolean: perhaps"]);
        let switch = settings(&[], &[("BUILDX_BAKE_FILE_RELATIVE_PATHS", "perhaps")]).expect_err("bad");
        assert_eq!(switch, ["the environment variable `BUILDX_BAKE_FILE_RELATIVE_PATHS` is not a boolean: perhaps"]);
    }

    #[test]
    fn lists_are_asked_for_in_three_forms() {
        let read = |text: &str| ListWhat::parse(text).map_err(|it| it.message);
        assert_eq!(read("targets"), Ok(ListWhat { variables: false, json: false }));
        assert_eq!(read("type=variables,format=json"), Ok(ListWhat { variables: true, json: true }));
        assert_eq!(read("kind=targets"), Err("`--list` has no key: kind".to_owned()));
    }
}
