//! The definition at one state of the work tree, planned and lowered.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use petgraph::graph::NodeIndex;

use crate::{
    affected::{BuildReading, ContextRead, PlannedState},
    cli::{
        commands::check::{templates, without_templates},
        definition, entitlements,
        exit::FAILED,
        settings::Settings,
    },
    engine::{self, context::Contexts},
    eval::{
        evaluate::{Listed, evaluate, list_targets},
        target::typed::Target,
    },
    graph::Graph,
    oci::Platform,
    plan::{Build, Plan, TargetName, make::make, need::needs},
    report::{Diagnostic, SourceMap},
    spec::ExecutionMode,
    ui::{masking, output},
};

/// The definition at one state.
pub(super) struct DefinitionState {
    pub(super) plan: Plan,
    targets: IndexMap<TargetName, Target>,
    readings: HashMap<NodeIndex, Result<BuildReading, String>>,
    pub(super) sources: SourceMap,
    /// The mode that the groups of the plan ask for.
    pub(super) release: Option<ExecutionMode>,
}

/// Which targets of the later state are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnnamedTargets {
    /// Without names all of them.
    All,
    /// Without names those of `default`, as a build has it.
    Default,
}

impl DefinitionState {
    /// Reads, plans and lowers the later state.
    ///
    /// # Errors
    /// The exit code, when the definition is at fault; the diagnostics were shown.
    pub(super) fn later(settings: &Settings, unnamed: UnnamedTargets, graph: &mut Graph) -> Result<Self, u8> {
        let (mut read, faults) = definition::load(settings);
        definition::check(settings, faults, &read.sources)?;
        let host = Platform::host();
        let is_all = settings.names.is_empty() && unnamed == UnnamedTargets::All;
        if is_all {
            let Listed { all, diagnostics, unneeded_faults, hidden } =
                list_targets(&read.definition, &read.input, &host.to_string());
            if all.is_empty() {
                masking::hide(hidden);
                definition::check(settings, diagnostics.into_iter().chain(unneeded_faults).collect(), &read.sources)?;
                return Ok(Self::without_targets(read.sources));
            }
            read.input.names = all.into_iter().map(|it| it.name.to_string()).collect();
        }
        let (evaluated, faults) = evaluate(&read.definition, &read.input, &host.to_string());
        masking::hide(evaluated.hidden.clone());
        definition::check(settings, faults, &read.sources)?;
        let (mut plan, _) = make(&evaluated, definition::plan_input(settings, &host));
        if is_all {
            plan = without_templates(plan, &templates(&read.definition), &settings.cwd);
        }
        let needs = needs(&plan, |name| settings.env.contains_key(name));
        let paths = entitlements::handles(&needs, &evaluated.grants, &read.from_remote, settings);
        let contexts = Contexts::new(settings.cwd.clone(), paths, read.sources);
        // Groups that ask for different modes are told by the build.
        let release = evaluated.release().ok().flatten();
        let state = lowered(settings, plan, evaluated.targets, &contexts, graph)?;
        Ok(Self { release, ..state })
    }

    /// Reads, plans and lowers an earlier state, with those of the targets that it has.
    ///
    /// # Errors
    /// Why it is not known.
    pub(super) fn earlier(settings: &Settings, names: &HashSet<TargetName>, graph: &mut Graph) -> Result<Self, String> {
        let (mut read, faults) = definition::load(settings);
        fine(&faults)?;
        let host = Platform::host();
        let Listed { all, diagnostics, .. } = list_targets(&read.definition, &read.input, &host.to_string());
        fine(&diagnostics)?;
        let names: Vec<String> = all
            .into_iter()
            .filter(|it| !it.is_group && names.contains(&TargetName(it.name.clone())))
            .map(|it| it.name.to_string())
            .collect();
        if names.is_empty() {
            return Ok(Self::without_targets(read.sources));
        }
        read.input.names = names;
        let (evaluated, faults) = evaluate(&read.definition, &read.input, &host.to_string());
        masking::hide(evaluated.hidden.clone());
        fine(&faults)?;
        let (plan, _) = make(&evaluated, definition::plan_input(settings, &host));
        let needs = needs(&plan, |name| settings.env.contains_key(name));
        let paths = entitlements::handles(&needs, &evaluated.grants, &read.from_remote, settings);
        let contexts = Contexts::new(settings.cwd.clone(), paths, read.sources);
        lowered(settings, plan, evaluated.targets, &contexts, graph).map_err(|_| "the run cannot be started".to_owned())
    }

    fn without_targets(sources: SourceMap) -> Self {
        Self { plan: Plan::default(), targets: IndexMap::new(), readings: HashMap::new(), sources, release: None }
    }

    /// What each build reads, as far as that is known.
    pub(super) fn reads(&self) -> impl Iterator<Item = (&Build, &[ContextRead])> {
        self.readings.iter().filter_map(|(node, reading)| {
            let reads = reading.as_ref().ok()?.reads.as_slice();
            Some((self.plan.build(*node), reads))
        })
    }

    /// The state as it is compared.
    pub(super) fn planned(&self) -> PlannedState<'_> {
        let Self { plan, targets, readings, sources, release: _ } = self;
        PlannedState { plan, readings, targets, sources }
    }
}

/// Lowers the builds of a plan. Nothing is waited for: no registry is asked.
fn lowered(
    settings: &Settings,
    plan: Plan,
    targets: IndexMap<TargetName, Target>,
    contexts: &Contexts,
    graph: &mut Graph,
) -> Result<DefinitionState, u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| {
        let fault = Diagnostic::error("bake::cli::runtime", "the run cannot be started").cause(&error);
        output::diagnostics(&[fault], &SourceMap::default(), settings.color);
        FAILED
    })?;
    let readings = runtime.block_on(engine::reading::read_builds(&plan, contexts, graph));
    Ok(DefinitionState { plan, targets, readings, sources: contexts.sources(), release: None })
}

fn fine(faults: &[Diagnostic]) -> Result<(), String> {
    let words = |fault: &Diagnostic| match fault.causes.last() {
        Some(cause) => format!("{}: {cause}", fault.message),
        None => fault.message.clone(),
    };
    faults.iter().find(|fault| fault.is_error()).map_or(Ok(()), |fault| Err(words(fault)))
}
