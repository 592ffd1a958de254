//! Reading and evaluating the definition for a command, and telling the user what is wrong with it.

use super::{FAILED, entitlements, settings::Settings, world};
use crate::{
    definition::{
        load::{self, Definition, Request},
        remote::Remote,
    },
    eval::{Evaluated, evaluate::evaluate, input::Input},
    oci::Platform,
    plan::{Node, Plan, make::make, need::needs},
    report::{Diagnostic, Severity, SourceMap, Span, Spanned},
    sandbox,
    spec::Call,
    ui::output,
};

/// A definition that could be read, and what evaluation may see of the world.
pub(crate) struct Read {
    pub(crate) definition: Definition,
    pub(crate) sources: SourceMap,
    pub(crate) input: Input,
}

/// Reads the definition.
///
/// # Errors
/// The exit code, when it is at fault; that has been told.
pub(crate) fn read(settings: &Settings) -> Result<Read, u8> {
    let (read, diagnostics) = load(settings);
    check(settings, diagnostics, &read.sources)?;
    Ok(read)
}

/// Reads the definition and tells nobody what is wrong with it.
pub(crate) fn load(settings: &Settings) -> (Read, Vec<Diagnostic>) {
    let empty = std::collections::BTreeMap::new();
    let env = if settings.no_env_lookup { &empty } else { &settings.env };
    let command = |program: &std::ffi::OsStr| sandbox::command(program);
    let remote = settings.remote.as_deref().map(|url| Remote { url, env: &settings.env, command });
    let request =
        Request { files: &settings.files, named_by: settings.files_named_by, remote, env, vars: &settings.vars };
    let mut loaded = load::load(&request);
    let mut diagnostics = settings.warnings.clone();
    diagnostics.append(&mut loaded.diagnostics);
    let mut sources = loaded.sources;
    let overrides = settings.overrides.iter().map(|(name, text)| {
        let source = sources.add(name.as_str(), text.as_str());
        let end = u32::try_from(text.len()).unwrap_or(u32::MAX);
        Spanned::new(text.clone(), Span { source, start: 0, end })
    });
    let overrides = overrides.collect();
    let input = Input {
        env: env.clone(),
        vars: settings.vars.clone(),
        overrides,
        names: settings.names.clone(),
        now: settings.now,
        random: settings.random,
        home: settings.home.clone(),
        cmd_context: settings.cmd_context.clone(),
        cwd: settings.cwd.display().to_string(),
        folders: if settings.relative_paths { loaded.folders } else { Default::default() },
        remote: settings.remote.clone(),
        source_date_epoch: settings.source_date_epoch.clone(),
    };
    (Read { definition: loaded.definition, sources, input }, diagnostics)
}

/// Reads and evaluates the definition; looks at what its targets use of this machine.
///
/// # Errors
/// The exit code, when something is at fault; that has been told.
pub(crate) fn evaluated(settings: &Settings) -> Result<(Evaluated, SourceMap), u8> {
    let read = read(settings)?;
    let (evaluated, mut diagnostics) = evaluate(&read.definition, &read.input, &Platform::host().to_string());
    if !diagnostics.iter().any(Diagnostic::is_error) {
        world::check(&evaluated, settings, &mut diagnostics);
    }
    check(settings, diagnostics, &read.sources)?;
    Ok((evaluated, read.sources))
}

/// Shows diagnostics.
///
/// # Errors
/// The exit code, if one of them is an error; with `--strict` a warning is one.
pub(crate) fn check(settings: &Settings, mut diagnostics: Vec<Diagnostic>, sources: &SourceMap) -> Result<(), u8> {
    if settings.strict {
        diagnostics.iter_mut().for_each(|it| it.severity = Severity::Error);
    }
    output::diagnostics(&diagnostics, sources, settings.color);
    if diagnostics.iter().any(Diagnostic::is_error) { Err(FAILED) } else { Ok(()) }
}

/// A plan that may be run.
pub(crate) struct Planned {
    pub(crate) evaluated: Evaluated,
    pub(crate) plan: Plan,
    /// The texts that spans in the plan point into.
    pub(crate) sources: SourceMap,
}

/// Reads, evaluates and plans.
///
/// # Errors
/// The exit code, when something is at fault; that has been told.
pub(crate) fn planned(settings: &Settings) -> Result<Planned, u8> {
    let (evaluated, sources) = evaluated(settings)?;
    let (plan, diagnostics) = make(&evaluated, &Platform::host());
    check(settings, diagnostics, &sources)?;
    Ok(Planned { evaluated, plan, sources })
}

/// As [`planned`], and the plan asks for nothing that the user does not allow.
///
/// # Errors
/// The exit code, when something is at fault; that has been told.
pub(crate) fn allowed(settings: &Settings) -> Result<Planned, u8> {
    let planned = planned(settings)?;
    let silent: Vec<&str> =
        planned.plan.targets.iter().filter(|(_, it)| !it.has_output).map(|(name, _)| &*name.0).collect();
    let calls = planned.plan.graph.node_weights().any(|it| matches!(it, Node::Build(it) if it.call != Call::default()));
    let without_output = (!silent.is_empty() && !calls).then(|| {
        Diagnostic::warning(
            "bake::cli::no_output",
            format!("nothing is written, the result stays in the cache, of: {}", silent.join(", ")),
        )
        .help("give an output, or --push or --load; `output = [\"type=cacheonly\"]` says that this is wanted")
    });
    if let Some(warning) = without_output {
        output::diagnostics(&[warning], &planned.sources, settings.color);
    }
    let missing = entitlements::check(&needs(&planned.plan), &planned.evaluated.grants, settings);
    check(settings, missing.into_iter().collect(), &planned.sources)?;
    Ok(planned)
}
