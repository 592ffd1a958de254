//! Makes a plan of evaluated targets: one build per distinct work and platform, one export per distinct output.
//!
//! Here is told what a build refuses of its targets, and checked what concerns several of them: destinations that would
//! be written twice.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use indexmap::IndexMap;
use petgraph::graph::NodeIndex;

use super::{
    Build, CacheNamespace, Export, Plan, PlanKey, PlanLink, PlanNode, TargetNodes, build::StageOption, dest, shared,
};
use crate::{
    eval::{
        evaluation::Evaluation,
        target::typed::{Id, Target, TargetName},
    },
    oci::{Digest, Platform},
    report::Diagnostic,
    spec::{OptionItem, Output, call::Method, context::ContextSource, output::ResultSource},
};

/// What is wrong with a plan. With errors among them it is not to be run.
#[derive(Debug)]
pub(crate) struct PlanFaults {
    /// Of one target each, whatever else is built.
    pub(crate) of_targets: Vec<Diagnostic>,
    /// Of exports and builds that write to one place or under one name, because they are in one plan.
    pub(crate) conflicts: Vec<Diagnostic>,
}

impl PlanFaults {
    /// All of them.
    pub(crate) fn into_all(self) -> Vec<Diagnostic> {
        let Self { mut of_targets, conflicts } = self;
        of_targets.extend(conflicts);
        of_targets
    }
}

/// Everything that a plan depends on beside the evaluated targets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanInput<'a> {
    /// The platform of targets that name none.
    pub(crate) host: &'a Platform,
    /// Destinations are relative to it.
    pub(crate) cwd: &'a Path,
    /// The URL of a remote definition.
    pub(crate) definition_url: Option<&'a str>,
    /// The namespace of cache mounts that the user chose.
    pub(crate) cache_namespace: Option<&'a str>,
}

/// Makes the plan, and says what is wrong with it.
pub(crate) fn make(evaluated: &Evaluation, input: PlanInput<'_>) -> (Plan, PlanFaults) {
    let contexts = evaluated.targets.values().flat_map(|target| &target.contexts);
    let linked = contexts.filter_map(|(_, context)| match context {
        ContextSource::Target(name) => Some(name.as_str()),
        _ => None,
    });
    let mut maker = Maker {
        evaluated,
        input,
        linked: linked.collect(),
        plan: Plan::default(),
        by_key: HashMap::new(),
        dests: HashMap::new(),
        diagnostics: Vec::new(),
        conflicts: Vec::new(),
    };
    for name in evaluated.targets.keys() {
        maker.target_and_links(name);
    }
    // The order of the command line, not that in which links were met.
    maker.plan.targets.sort_by_cached_key(|name, _| evaluated.targets.get_index_of(name));
    // What is written does not depend on the order in which targets were asked for.
    for group in &mut maker.plan.joint {
        group.sort_by_cached_key(|node| (maker.plan.graph[*node].wanted_by().iter().min().cloned(), *node));
    }
    maker.conflicts.extend(shared::conflicts(&maker.plan));
    (maker.plan, PlanFaults { of_targets: maker.diagnostics, conflicts: maker.conflicts })
}

struct Maker<'a> {
    evaluated: &'a Evaluation,
    input: PlanInput<'a>,
    /// Targets that contexts of others stand for.
    linked: HashSet<&'a str>,
    plan: Plan,
    by_key: HashMap<PlanKey, NodeIndex>,
    /// What is written where, and by whom.
    dests: HashMap<String, NodeIndex>,
    diagnostics: Vec<Diagnostic>,
    conflicts: Vec<Diagnostic>,
}

/// The builds of one target, by stage.
struct StageBuilds<'a> {
    target: &'a Target,
    platforms: Vec<Platform>,
    /// The build of the target's own stage, on no platform yet.
    model: Build,
    /// One build per platform for each stage; the first is what the target stands for.
    by_stage: Vec<(Option<String>, Vec<NodeIndex>)>,
}

impl<'a> Maker<'a> {
    /// Adds a target after those that its contexts point at; links have no circles.
    fn target_and_links(&mut self, root: &'a TargetName) {
        let mut path: Vec<(&'a TargetName, Vec<&'a TargetName>)> = vec![(root, self.links(root))];
        while let Some((name, links)) = path.last_mut() {
            let name = *name;
            match links.pop() {
                Some(next) if self.plan.targets.contains_key(next) => (),
                Some(next) => path.push((next, self.links(next))),
                None => {
                    path.pop();
                    if !self.plan.targets.contains_key(name) {
                        let nodes = self.add(&self.evaluated.targets[name]);
                        self.plan.targets.insert(name.clone(), nodes);
                    }
                }
            }
        }
    }

    fn links(&self, name: &TargetName) -> Vec<&'a TargetName> {
        let target = &self.evaluated.targets[name];
        let linked = target.contexts.iter().filter_map(|(_, context)| match context {
            ContextSource::Target(name) => self.find(name),
            _ => None,
        });
        linked.map(|target| &target.name).collect()
    }

    fn find(&self, name: &str) -> Option<&'a Target> {
        self.evaluated.targets.get(&TargetName(name.into()))
    }

    fn add(&mut self, target: &'a Target) -> TargetNodes {
        let platforms =
            if target.platforms.is_empty() { vec![self.input.host.clone()] } else { target.platforms.clone() };
        let model = self.model(target);
        let is_built = model.call.method == Method::Build;
        let mut stages = StageBuilds { target, platforms, model, by_stage: Vec::new() };
        if !is_built || self.needs_own_stage(target) {
            self.stage(&mut stages, None);
        }
        let (mut exports, mut has_output) = (Vec::new(), false);
        for output in &target.outputs {
            has_output = true;
            // What is only asked about is not written.
            if !is_built {
                continue;
            }
            let builds = self.stage(&mut stages, output.value.source().map(|_| &**output));
            if !matches!(output.value, Output::Cacheonly(_)) {
                exports.push(self.add_export(target, export_of(target, output, &stages.platforms), &builds));
            }
        }
        self.diagnostics.extend(target.faults.iter().cloned());
        let (_, builds) = stages.by_stage.swap_remove(0);
        TargetNodes { builds, exports, tags: target.tags.clone(), is_linked: target.is_linked, has_output }
    }

    /// Whether somebody wants the result of the stage that the target builds: not if each of its outputs is of another one.
    fn needs_own_stage(&self, target: &Target) -> bool {
        let has_own = target.outputs.is_empty() || target.outputs.iter().any(|it| it.value.source().is_none());
        has_own || self.linked.contains(&*target.name.0)
    }

    /// The builds of one stage of a target, one per platform. `output` is the one that names the stage; without it, it is
    /// the stage of the target.
    fn stage(&mut self, stages: &mut StageBuilds<'a>, output: Option<&OptionItem<Output>>) -> Vec<NodeIndex> {
        let target = stages.target;
        let wanted = output.and_then(|output| output.value.source()).or(target.stage.as_deref());
        if let Some((_, builds)) = stages.by_stage.iter().find(|(stage, _)| stage.as_deref() == wanted) {
            return builds.clone();
        }
        let mut model = Build { stage: wanted.map(str::to_owned), ..stages.model.clone() };
        if let Some(place) = output.and_then(|output| output.place(ResultSource::OPTION)) {
            let at = place.at.unwrap_or_else(|| target.at(Id::Output));
            model.stage_option = Some(StageOption { at, part: place.part.clone() });
        }
        if !stages.by_stage.is_empty() {
            // A cache is written once for each target.
            model.cache_to.clear();
        }
        let build = |platform: &Platform| Build { platform: platform.clone(), ..model.clone() };
        let builds: Vec<Build> = stages.platforms.iter().map(build).collect();
        let builds: Vec<NodeIndex> = builds.into_iter().map(|build| self.add_build(target, build)).collect();
        stages.by_stage.push((model.stage, builds.clone()));
        builds
    }

    /// The build of a target on no platform yet.
    fn model(&self, target: &Target) -> Build {
        fn owned(pairs: &[(Arc<str>, Arc<str>)]) -> IndexMap<String, String> {
            pairs.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
        }
        let hidden = &self.evaluated.hidden;
        Build {
            key: PlanKey(Digest::from_raw([0; 32])),
            wanted_by: vec![target.name.clone()],
            platform: self.input.host.clone(),
            explicit_platform: !target.platforms.is_empty(),
            multi_platform: target.multi_platform,
            context: target.context.clone(),
            dockerfile: target.dockerfile.clone(),
            stage: target.stage.as_ref().map(ToString::to_string),
            stage_option: None,
            args: owned(&target.args),
            hidden_args: target
                .args
                .iter()
                .filter(|(_, value)| hidden.mask(value) != **value)
                .map(|(name, _)| name.to_string())
                .collect(),
            labels: owned(&target.labels),
            contexts: target.contexts.iter().map(|(name, context)| (name.to_string(), context.clone())).collect(),
            network: target.network,
            extra_hosts: target.extra_hosts.clone(),
            shm_size: target.shm_size,
            ulimits: target.ulimits.clone(),
            resources: target.resources.clone(),
            concurrency: target.concurrency.iter().cloned().collect(),
            no_cache: target.no_cache,
            no_cache_filter: target.no_cache_filter.iter().map(ToString::to_string).collect(),
            secrets: target.secrets.clone(),
            ssh: target.ssh.clone(),
            entitlements: target.entitlements.clone(),
            unnamed_policies: target.unnamed_policies,
            call: target.call.clone(),
            cache_from: target.cache_from.clone(),
            cache_to: target.cache_to.clone(),
            cache_namespace: self.cache_namespace(target),
            at: target.at,
            places: target.attribute_places().collect(),
        }
    }

    /// The namespace of the cache mounts of a target, as far as its own contexts decide.
    fn cache_namespace(&self, target: &Target) -> CacheNamespace {
        if let Some(name) = self.input.cache_namespace {
            return CacheNamespace::Named(name.to_owned());
        }
        let mut namespace = CacheNamespace::Shared;
        let contexts = target.contexts.iter().map(|(_, context)| context).chain([&target.context]);
        let remote = contexts.filter_map(|context| match context {
            ContextSource::Git(url) | ContextSource::Http(url) => Some(url.as_str()),
            _ => None,
        });
        remote.chain(self.input.definition_url).for_each(|url| namespace.add_origin(url));
        namespace
    }

    fn add_build(&mut self, target: &'a Target, mut build: Build) -> NodeIndex {
        let mut sources: Vec<(String, NodeIndex)> = Vec::new();
        for (name, context) in &build.contexts {
            if let ContextSource::Target(linked) = context
                && let Some(ix) = self.linked_build(target, name, linked, &build.platform)
            {
                sources.push((name.clone(), ix));
            }
        }
        for (_, source) in &sources {
            // What comes from elsewhere does so through other targets as well.
            build.cache_namespace.join(&self.plan.build(*source).cache_namespace);
        }
        let keys = sources.iter().map(|(name, ix)| (name.as_str(), self.plan.graph[*ix].key().0)).collect();
        build.key = PlanKey(build.digest(&keys));
        if let Some(ix) = self.by_key.get(&build.key).copied() {
            if let PlanNode::Build(known) = &mut self.plan.graph[ix] {
                known.wanted_by.push(target.name.clone());
                known.hidden_args.append(&mut build.hidden_args);
                known.concurrency.extend(build.concurrency);
                add_new(&mut known.cache_from, build.cache_from);
                add_new(&mut known.cache_to, build.cache_to);
            }
            return ix;
        }
        let key = build.key;
        let ix = self.plan.graph.add_node(PlanNode::Build(Box::new(build)));
        self.by_key.insert(key, ix);
        for (name, source) in sources {
            self.plan.graph.add_edge(source, ix, PlanLink::Context { name });
        }
        ix
    }

    /// The build of a linked target that fits a platform: the same one, or the only one there is.
    fn linked_build(&mut self, target: &Target, context: &str, linked: &str, platform: &Platform) -> Option<NodeIndex> {
        let nodes = self.plan.targets.get(&TargetName(linked.into()))?;
        if let [only] = nodes.builds.as_slice() {
            return Some(*only);
        }
        let found = nodes.builds.iter().find(|ix| self.plan.build(**ix).platform == *platform).copied();
        if found.is_none() {
            let offered: Vec<String> =
                nodes.builds.iter().map(|ix| self.plan.build(*ix).platform.to_string()).collect();
            self.diagnostics.push(
                Diagnostic::error(
                    "bake::plan::link_platform",
                    format!(
                        "context `{context}` of target `{}` points at `{linked}`, which is not built for: {platform}",
                        target.name
                    ),
                )
                .at(target.at(Id::Contexts), format!("`{linked}` is built for {}", offered.join(", ")))
                .help(format!("add {platform} to `platforms` of `{linked}`")),
            );
        }
        found
    }

    fn add_export(&mut self, target: &Target, mut export: Export, builds: &[NodeIndex]) -> NodeIndex {
        let keys: Vec<Digest> = builds.iter().map(|ix| self.plan.graph[*ix].key().0).collect();
        export.key = PlanKey(export.digest(&keys));
        if let Some(ix) = self.by_key.get(&export.key).copied() {
            if let PlanNode::Export(known) = &mut self.plan.graph[ix]
                && !known.wanted_by.contains(&target.name)
            {
                known.wanted_by.push(target.name.clone());
            }
            return ix;
        }
        let key = export.key;
        let ix = self.plan.graph.add_node(PlanNode::Export(Box::new(export)));
        self.by_key.insert(key, ix);
        for (platform, build) in builds.iter().enumerate() {
            self.plan.graph.add_edge(*build, ix, PlanLink::Result { platform });
        }
        self.claim(ix);
        ix
    }

    /// Refuses a destination that another export writes.
    fn claim(&mut self, ix: NodeIndex) {
        let Some(dest) = dest::by_text(self.plan.export(ix), self.input.cwd) else { return };
        let (first, is_new) = match self.dests.get(&dest) {
            Some(first) => (*first, false),
            None => {
                self.dests.insert(dest, ix);
                (ix, true)
            }
        };
        if !is_new && !dest::are_joint(self.plan.export(first), self.plan.export(ix)) {
            self.conflicts.extend(dest::conflict(self.plan.export(first), self.plan.export(ix)));
        } else if dest::appends(self.plan.export(ix)) {
            match self.plan.joint.iter_mut().find(|group| group[0] == first) {
                Some(group) => group.push(ix),
                None => self.plan.joint.push(vec![ix]),
            }
        }
    }
}

/// The export of one output of a target; it has no key yet.
fn export_of(target: &Target, output: &Arc<OptionItem<Output>>, platforms: &[Platform]) -> Export {
    let is_image = output.value.image().is_some();
    Export {
        key: PlanKey(Digest::from_raw([0; 32])),
        wanted_by: vec![target.name.clone()],
        output: output.clone(),
        tags: if is_image { target.tags.clone() } else { Vec::new() },
        annotations: if is_image { target.annotations.clone() } else { Vec::new() },
        attestations: target.attestations.clone(),
        platforms: platforms.to_vec(),
        multi_platform: target.multi_platform,
        at: target.at(Id::Output),
    }
}

/// Adds what is not there yet.
fn add_new<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for it in more {
        if !all.contains(&it) {
            all.push(it);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{eval::evaluate::tests::evaluated, plan::explain};

    fn made(text: &str, names: &[&str], url: Option<&str>, namespace: Option<&str>) -> (Plan, Vec<Diagnostic>) {
        let host = Platform::normalised("linux", "amd64", None);
        let input = PlanInput { host: &host, cwd: Path::new("/w"), definition_url: url, cache_namespace: namespace };
        let (plan, faults) = make(&evaluated(text, names), input);
        (plan, faults.into_all())
    }

    #[test]
    fn cache_mounts_are_apart_by_where_content_comes_from() {
        let text = r#"
            target "here" {}
            target "git" { context = "https://user:pw@h/a.git?ref=1" }
            target "again" { context = "https://h/a.git#v2:sub" }
            target "http" { context = "https://h/a.tar?token=x" }
            target "named" { contexts = { a = "https://h/a.git#v3" } }
            target "linked" { contexts = { a = "target:http" } }
            target "both" {
              context = "https://h/a.git"
              contexts = { a = "target:linked" }
            }"#;
        let names = ["here", "git", "again", "http", "named", "linked", "both"];
        let spaces = |url: Option<&str>, namespace: Option<&str>| {
            let (plan, faults) = made(text, &names, url, namespace);
            assert!(faults.is_empty(), "{faults:?}");
            let space = |name: &str| {
                let nodes = &plan.targets[&TargetName(name.into())];
                plan.build(nodes.builds[0]).cache_namespace.text().into_owned()
            };
            names.map(space)
        };
        let (git, http) = ("from:https://h/a.git", "from:https://h/a.tar");
        let both = format!("{git} https://h/a.tar");
        assert_eq!(spaces(None, None), ["", git, git, http, git, http, &both]);
        assert_eq!(spaces(Some("git://g/d"), None)[0], "from:git://g/d");
        assert_eq!(spaces(Some("git://g/d"), Some("ci")), ["named:ci"; 7]);
    }

    /// The plan of a bake file in HCL that has no fault.
    pub(crate) fn plan_of(text: &str, names: &[&str]) -> Plan {
        let (plan, faults) = made(text, names, None, None);
        assert!(faults.is_empty(), "{faults:?}");
        plan
    }

    fn check(text: &str, names: &[&str]) -> (String, Vec<String>) {
        let (plan, diagnostics) = made(text, names, None, None);
        let text = explain::text(&plan);
        let heads = text.lines().filter(|line| line.starts_with("build ") || line.starts_with("export "));
        // The keys are left out.
        let heads: Vec<String> = heads
            .map(|line| line.split("  ").map(|part| part.split(' ').next().unwrap_or("")).collect::<Vec<_>>().join(" "))
            .collect();
        (heads.join("\n"), diagnostics.into_iter().map(|it| it.message).collect())
    }

    #[test]
    fn targets_that_differ_in_tags_share_a_build() {
        let (plan, faults) = check(
            r#"
            target "a" {
              tags = ["a:1"]
              output = ["type=image"]
            }
            target "b" {
              inherits = ["a"]
              tags = ["b:1"]
            }"#,
            &["a", "b"],
        );
        assert_eq!((plan.as_str(), faults), ("build linux/amd64 a,\nexport a type=image\nexport b type=image", vec![]));
    }

    #[test]
    fn outputs_of_other_stages_are_builds_of_them() {
        let text = r#"
            target "app" {
              output = ["type=image", "type=tar,dest=a.tar,source=builder", "type=cacheonly,source=test"]
              cache-to = ["type=local,dest=c"]
            }
            target "builder" {
              target = "builder"
              output = ["type=oci,dest=b.tar"]
            }
            target "files" {
              output = ["type=tar,dest=f.tar,source=builder"]
            }"#;
        let stages = |names: &[&str]| {
            let plan = plan_of(text, names);
            let build = |node: &PlanNode| match node {
                PlanNode::Build(it) => Some((it.stage.clone().unwrap_or_default(), it.cache_to.len())),
                PlanNode::Export(_) => None,
            };
            plan.graph.node_weights().filter_map(build).collect::<Vec<_>>()
        };
        let of = |stage: &str, caches| (stage.to_owned(), caches);
        assert_eq!(stages(&["app"]), [of("", 1), of("builder", 0), of("test", 0)]);
        assert_eq!(stages(&["builder", "app"]), [of("builder", 0), of("", 1), of("test", 0)]);
        assert_eq!(stages(&["files"]), [of("builder", 0)], "nobody wants the last stage");
    }

    #[test]
    fn a_destination_is_written_once() {
        let text = r#"
            target "a" {
              output = ["type=oci,dest=./x.tar"]
            }
            target "b" {
              args = { X = "1" }
              output = ["type=tar,dest=/w/x.tar"]
            }"#;
        let (_, faults) = check(text, &["a", "b"]);
        assert_eq!(faults, ["targets `a` and `b` write different things to: /w/x.tar"]);
    }

    #[test]
    fn links_and_platforms_meet() {
        let text = r#"
            target "base" {
              platforms = ["linux/amd64", "linux/arm64"]
            }
            target "app" {
              platforms = ["linux/arm64"]
              contexts = { b = "target:base" }
            }
            target "odd" {
              platforms = ["linux/s390x"]
              contexts = { b = "target:base" }
            }"#;
        let (plan, faults) = check(text, &["app"]);
        assert_eq!(
            (plan.as_str(), faults),
            ("build linux/amd64 base\nbuild linux/arm64 base\nbuild linux/arm64 app", vec![])
        );
        let (_, faults) = check(text, &["odd"]);
        assert_eq!(faults, ["context `b` of target `odd` points at `base`, which is not built for: linux/s390x"]);
    }

    #[test]
    fn options_that_only_a_build_needs_are_checked() {
        let text = r#"
            target "a" {
              tags = ["UPPER CASE"]
              network = "warp"
              entitlements = ["x"]
              call = "dance"
              output = ["type=image"]
            }"#;
        let (_, faults) = check(text, &["a"]);
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
