//! Reads, evaluates and plans the definition for a command, and shows its diagnostics.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    builder_choice::BuilderChoice,
    entitlements,
    exit::{FAILED, OK},
    files::Workspace,
    settings::Settings,
    world,
};
use crate::{
    definition::{
        kept::KeptVariables,
        load::{self, ComposeVariables, Definition, Loaded, Request},
        origin::{DefinitionOrigin, DefinitionReads},
        remote::Remote,
        syntax::Body,
        var_file::{self, VarFile},
    },
    eval::{
        self,
        evaluate::evaluate,
        evaluation::Evaluation,
        input::{CacheVariables, Input},
        target::typed::UNKNOWN_OPTION,
    },
    grant::{Allowed, HostPaths},
    oci::Platform,
    plan::{
        Plan, PlanNode,
        make::{PlanInput, make},
        need::needs,
    },
    report::{Diagnostic, Severity, SourceId, SourceMap, Span, Spanned},
    sandbox,
    spec::CallMethod,
    ui::{masking, output},
};

/// A definition that was read, and the input of its evaluation.
pub(crate) struct ReadDefinition {
    pub(crate) definition: Definition,
    pub(crate) sources: SourceMap,
    pub(crate) input: Input,
    /// The texts that came from elsewhere.
    pub(crate) from_remote: BTreeSet<SourceId>,
}

/// Reads the definition.
///
/// # Errors
/// The exit code, when the definition is at fault; the diagnostics were shown.
pub(crate) fn read(settings: &Settings) -> Result<ReadDefinition, u8> {
    let (read, diagnostics) = load(settings);
    check(settings, diagnostics, &read.sources)?;
    Ok(read)
}

/// Reads the definition and returns its diagnostics instead of showing them.
pub(crate) fn load(settings: &Settings) -> (ReadDefinition, Vec<Diagnostic>) {
    let mut sources = SourceMap::default();
    let mut diagnostics = settings.warnings.clone();
    let reads = entitlements::definition_reads(settings);
    let mut input = input(settings, &reads, &mut sources);
    if let Some(target) = &settings.command_line {
        let definition = target.definition(&mut sources);
        return (ReadDefinition { definition, sources, input, from_remote: BTreeSet::new() }, diagnostics);
    }
    let files = settings.var_files.iter();
    let files: Vec<VarFile> =
        files.filter_map(|path| var_file::read(path, &input.env, &reads, &mut sources, &mut diagnostics)).collect();
    let (values, mut faults) = eval::variable::var_file::values(files, &input, &Platform::host().to_string());
    diagnostics.append(&mut faults);
    // Compose files interpolate strings only.
    let texts = values.iter().filter_map(|(name, it)| Some((name.clone(), it.value.to_text()?.to_string())));
    let mut vars: BTreeMap<String, String> = texts.collect();
    vars.extend(settings.vars.clone());
    input.var_values = values;
    let command = |program: &std::ffi::OsStr| sandbox::command(program);
    let remote = settings.remote.as_deref().map(|url| Remote { url, env: &settings.env, command });
    let request = Request {
        files: &settings.files,
        named_by: settings.files_named_by,
        remote,
        env: &input.env,
        vars: &vars,
        compose_variables: ComposeVariables::Replaced,
        reads: &reads,
    };
    let mut loaded = tracing::debug_span!("load").in_scope(|| load::load(&request, sources));
    diagnostics.append(&mut loaded.diagnostics);
    if settings.relative_paths {
        input.folders = loaded.folders;
    }
    input.folders.extend(loaded.base_folders);
    let Loaded { definition, sources, origins, .. } = loaded;
    let is_remote = |(id, origin): (&SourceId, &DefinitionOrigin)| (*origin == DefinitionOrigin::Remote).then_some(*id);
    let from_remote = origins.iter().filter_map(is_remote).collect();
    input.origins = origins;
    (ReadDefinition { definition, sources, input, from_remote }, diagnostics)
}

/// Compose files that are converted: their variables are kept.
pub(crate) struct KeptCompose {
    pub(crate) body: Body,
    pub(crate) kept: KeptVariables,
}

/// Reads Compose files and keeps their variables; the values of the environment are not in what is read. `None` if there are
/// bake files among the files, which are evaluated.
///
/// # Errors
/// The exit code, when a file is at fault; the diagnostics were shown.
pub(crate) fn read_kept(settings: &Settings) -> Result<Option<KeptCompose>, u8> {
    let reads = entitlements::definition_reads(settings);
    let request = Request {
        files: &settings.files,
        named_by: settings.files_named_by,
        remote: None,
        env: &settings.env,
        vars: &settings.vars,
        compose_variables: ComposeVariables::Kept,
        reads: &reads,
    };
    let Loaded { definition, sources, kept, diagnostics, .. } = load::load(&request, SourceMap::default());
    if !definition.files.is_empty() {
        return Ok(None);
    }
    let mut all = settings.warnings.clone();
    all.extend(diagnostics);
    check(settings, all, &sources)?;
    Ok(definition.compose.map(|body| KeptCompose { body, kept }))
}

/// The input of evaluation, without the values of variables files.
fn input(settings: &Settings, reads: &DefinitionReads, sources: &mut SourceMap) -> Input {
    let overrides = settings.overrides.iter().map(|(name, text)| {
        let source = sources.add(name.as_str(), text.as_str());
        let end = u32::try_from(text.len()).unwrap_or(u32::MAX);
        Spanned::new(text.clone(), Span { source, start: 0, end })
    });
    let overrides = overrides.collect();
    let mut variable = |name: &str| {
        let text = settings.env.get(name)?;
        let source = sources.add(name, text.as_str());
        let end = u32::try_from(text.len()).unwrap_or(u32::MAX);
        Some(Spanned::new(text.clone(), Span { source, start: 0, end }))
    };
    let (both, from) = (variable("BAKE_CACHE"), variable("BAKE_CACHE_FROM"));
    let caches = CacheVariables { both, from, to: variable("BAKE_CACHE_TO") };
    Input {
        env: if settings.no_env_lookup { BTreeMap::new() } else { settings.env.clone() },
        vars: settings.vars.clone(),
        var_values: BTreeMap::new(),
        overrides,
        names: settings.names.clone(),
        now: settings.now,
        random: settings.random,
        files: Some(Arc::new(Workspace::new(reads.clone()))),
        home: settings.home.clone(),
        cmd_context: settings.cmd_context.clone(),
        folders: BTreeMap::new(),
        origins: BTreeMap::new(),
        remote: settings.remote.clone(),
        source_date_epoch: settings.source_date_epoch.clone(),
        caches,
        loads_by_default: settings.loads_by_default,
        no_default_attestations: settings.no_default_attestations,
    }
}

/// What a definition is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be shown, perhaps on another machine than the one that builds: what is missing here does not stop it (without
    /// `--strict`). A missing secret or ssh key that is named by a path makes the exit code 1; other missing secrets, or no
    /// agent, are warnings.
    Show,
    /// To be built here.
    Build,
}

/// Reads and evaluates the definition, and checks what its targets use of this machine.
///
/// # Errors
/// The exit code, when something is at fault; the diagnostics were shown.
pub(crate) fn evaluated(settings: &Settings, purpose: Purpose) -> Result<EvaluatedDefinition, u8> {
    let mut read = read(settings)?;
    let (mut evaluated, mut diagnostics) = tracing::debug_span!("evaluate")
        .in_scope(|| evaluate(&read.definition, &read.input, &Platform::host().to_string()));
    masking::hide(evaluated.hidden.clone());
    let secret_env = std::mem::take(&mut read.definition.secret_env);
    for warning in diagnostics.iter_mut().filter(|it| !it.is_error() && it.targets.is_empty()) {
        let at = warning.labels.first().map(|label| label.at);
        warning.targets.extend(at.and_then(|at| read.definition.target_at(at)));
    }
    if !diagnostics.iter().any(Diagnostic::is_error) {
        let mut found = Vec::new();
        let definition =
            world::CheckedDefinition { evaluated: &evaluated, from_remote: &read.from_remote, secret_env: &secret_env };
        world::check(&definition, settings, purpose, &mut found);
        // A plan that is only shown is shown although something is missing on this machine.
        let to = if purpose == Purpose::Show { &mut evaluated.unneeded_faults } else { &mut diagnostics };
        to.append(&mut found);
    }
    check_all(settings, diagnostics, &mut evaluated.unneeded_faults, &read.sources)?;
    if purpose == Purpose::Show {
        // The process is about to end: to free a large definition piece by piece would only take time.
        std::mem::forget(read.definition);
    }
    Ok(EvaluatedDefinition { evaluated, sources: read.sources, from_remote: read.from_remote, secret_env })
}

/// A definition without an error.
pub(crate) struct EvaluatedDefinition {
    pub(crate) evaluated: Evaluation,
    /// The texts that spans point into.
    pub(crate) sources: SourceMap,
    /// Those that came from elsewhere.
    pub(crate) from_remote: BTreeSet<SourceId>,
    /// Variables for secrets that the definition gives.
    pub(crate) secret_env: BTreeMap<String, String>,
}

/// Shows diagnostics. `aside` are those of targets that were not asked for: they are shown together with the others if
/// the command stops, else apart with a note that it goes on.
///
/// # Errors
/// The exit code, if the command stops; with `--strict` any diagnostic stops it.
pub(crate) fn check_all(
    settings: &Settings,
    mut diagnostics: Vec<Diagnostic>,
    aside: &mut Vec<Diagnostic>,
    sources: &SourceMap,
) -> Result<(), u8> {
    let has_errors = |all: &[Diagnostic]| all.iter().any(Diagnostic::is_error);
    if settings.strict || has_errors(&diagnostics) || !has_errors(aside) {
        diagnostics.append(aside);
        return check(settings, diagnostics, sources);
    }
    check(settings, diagnostics, sources)?;
    output::diagnostics(aside, sources, settings.color);
    output::words("what was asked for goes on all the same; the exit code will be 1\n");
    Ok(())
}

/// Adjusts the exit code of a command: success becomes failure if a target that was not asked for is at fault.
pub(crate) fn concluding(aside: &[Diagnostic]) -> impl Fn(u8) -> u8 + use<> {
    let is_faulty = aside.iter().any(Diagnostic::is_error);
    move |code| if code == OK && is_faulty { FAILED } else { code }
}

/// Shows diagnostics.
///
/// # Errors
/// The exit code, if one of them is an error; with `--strict` a warning is one.
pub(crate) fn check(settings: &Settings, mut diagnostics: Vec<Diagnostic>, sources: &SourceMap) -> Result<(), u8> {
    if settings.strict {
        let warnings = diagnostics.iter_mut().filter(|it| it.severity == Severity::Warning);
        warnings.for_each(|it| it.severity = Severity::Error);
    }
    let has_errors = diagnostics.iter().any(Diagnostic::is_error);
    if has_errors || !settings.has_warned {
        output::diagnostics(&diagnostics, sources, settings.color);
    }
    if has_errors { Err(FAILED) } else { Ok(()) }
}

/// Warns of what a build would refuse: a definition that is only shown is shown all the same.
///
/// # Errors
/// The exit code with `--strict`, when there is something to warn of.
pub(crate) fn warn_of_builds(settings: &Settings, evaluated: &Evaluation, sources: &SourceMap) -> Result<(), u8> {
    let faults = evaluated.targets.values().flat_map(|target| &target.faults);
    let warning = |fault: &Diagnostic| Diagnostic { severity: Severity::Warning, ..fault.clone() };
    check(settings, faults.map(warning).collect(), sources)
}

/// A plan that may be run.
pub(crate) struct Planned {
    pub(crate) evaluated: Evaluation,
    pub(crate) plan: Plan,
    /// The texts that spans in the plan point into.
    pub(crate) sources: SourceMap,
    /// The texts that came from elsewhere.
    pub(crate) from_remote: BTreeSet<SourceId>,
    /// Variables for secrets that the definition gives.
    pub(crate) secret_env: BTreeMap<String, String>,
    /// The paths that it may open; those that were not checked are not among them.
    pub(crate) paths: HostPaths,
    /// What it may write on this machine; nothing before that was checked.
    pub(crate) writable: Allowed,
}

/// What the command line says about a plan; `host` is the platform of targets that name none.
pub(crate) fn plan_input<'a>(settings: &'a Settings, host: &'a Platform) -> PlanInput<'a> {
    PlanInput {
        host,
        cwd: &settings.cwd,
        definition_url: settings.remote.as_deref(),
        cache_namespace: settings.cache_namespace.as_deref(),
    }
}

/// Reads, evaluates and plans.
///
/// # Errors
/// The exit code, when something is at fault; the diagnostics were shown.
pub(crate) fn planned(settings: &Settings, purpose: Purpose) -> Result<Planned, u8> {
    let EvaluatedDefinition { evaluated, sources, from_remote, secret_env } = evaluated(settings, purpose)?;
    let (plan, faults) =
        tracing::debug_span!("plan").in_scope(|| make(&evaluated, plan_input(settings, &Platform::host())));
    let mut faults = faults.into_all();
    if settings.builder != BuilderChoice::Embedded {
        faults.iter_mut().for_each(passed_on);
    }
    check(settings, faults, &sources)?;
    let (paths, writable) = (HostPaths::default(), Allowed::default());
    Ok(Planned { evaluated, plan, sources, from_remote, secret_env, paths, writable })
}

/// What this engine does not know may be known to a builder, which gets it as it is written.
fn passed_on(fault: &mut Diagnostic) {
    if fault.code == UNKNOWN_OPTION {
        fault.severity = Severity::Warning;
        fault.message.push_str(" (passed on to the builder)");
    }
}

/// As [`planned`], and checks that the user allows everything that the plan needs.
///
/// # Errors
/// The exit code, when something is at fault; the diagnostics were shown.
pub(crate) fn allowed(settings: &Settings) -> Result<Planned, u8> {
    let mut planned = planned(settings, Purpose::Build)?;
    let silent: Vec<&str> =
        planned.plan.targets.iter().filter(|(_, it)| !it.has_output).map(|(name, _)| &*name.0).collect();
    let calls = planned
        .plan
        .graph
        .node_weights()
        .any(|it| matches!(it, PlanNode::Build(it) if it.call != CallMethod::default()));
    let without_output = (!silent.is_empty() && !calls).then(|| {
        Diagnostic::warning(
            "bake::cli::no_output",
            format!("No output specified for: {}. Build result will only remain in the build cache", silent.join(", ")),
        )
        .help(format!(
            "to push the result image into a registry use --push, to load it into docker use --load; \
             `{}` says that this is wanted",
            if settings.command_line.is_some() { "--output type=cacheonly" } else { "output = [\"type=cacheonly\"]" }
        ))
    });
    if let Some(warning) = without_output {
        output::diagnostics(&[warning], &planned.sources, settings.color);
    }
    let needs = needs(&planned.plan, |name| settings.env.contains_key(name));
    let mut by_user = planned.evaluated.grants.clone();
    if let Some(target) = &settings.command_line {
        by_user.extend(entitlements::named_by(target, &needs, &settings.cwd));
    }
    match entitlements::check(&needs, &by_user, &planned.from_remote, settings) {
        Ok(paths) => planned.paths = paths,
        Err(missing) => {
            check(settings, vec![missing], &planned.sources)?;
        }
    }
    planned.writable = entitlements::writable(&needs, settings);
    Ok(planned)
}
