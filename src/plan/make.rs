//! Makes a plan of evaluated targets: one build per distinct work and platform, one export per distinct output.
//!
//! Here is told what a build refuses of its targets, and checked what concerns several of them: destinations that would
//! be written twice.

use std::{collections::HashMap, path::Path, sync::Arc};

use indexmap::IndexMap;
use petgraph::graph::NodeIndex;

use super::{Build, Export, Plan, PlanKey, PlanLink, PlanNode, TargetNodes};
use crate::{
    eval::{
        evaluation::Evaluation,
        target::typed::{Id, Target, TargetName},
    },
    oci::{Digest, Platform},
    report::Diagnostic,
    spec::{
        Output,
        call::Method,
        context::{ContextSource, clean},
        output::{LocalMode, Writes},
    },
};

/// Makes the plan. With errors among the diagnostics it is not to be run. `host` is the platform of targets that name
/// none; destinations are relative to `cwd`.
pub(crate) fn make(evaluated: &Evaluation, host: &Platform, cwd: &Path) -> (Plan, Vec<Diagnostic>) {
    let mut maker = Maker {
        evaluated,
        host,
        cwd,
        plan: Plan::default(),
        by_key: HashMap::new(),
        dests: HashMap::new(),
        diagnostics: Vec::new(),
    };
    for name in evaluated.targets.keys() {
        maker.target_and_links(name);
    }
    // The order of the command line, not that in which links were met.
    maker.plan.targets.sort_by_cached_key(|name, _| evaluated.targets.get_index_of(name));
    (maker.plan, maker.diagnostics)
}

struct Maker<'a> {
    evaluated: &'a Evaluation,
    host: &'a Platform,
    cwd: &'a Path,
    plan: Plan,
    by_key: HashMap<PlanKey, NodeIndex>,
    /// What is written where, and by whom.
    dests: HashMap<String, NodeIndex>,
    diagnostics: Vec<Diagnostic>,
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
        let platforms = if target.platforms.is_empty() { vec![self.host.clone()] } else { target.platforms.clone() };
        let model = self.model(target, platforms.len() > 1);
        let mut builds = Vec::with_capacity(platforms.len());
        for platform in &platforms {
            builds.push(self.add_build(target, Build { platform: platform.clone(), ..model.clone() }));
        }
        let mut nodes = TargetNodes { builds, exports: Vec::new(), is_linked: target.is_linked, has_output: false };
        for output in &target.outputs {
            nodes.has_output = true;
            // What is only asked about is not written.
            if output.value != Output::Cacheonly && model.call.method == Method::Build {
                let is_image = output.value.image().is_some();
                let export = Export {
                    key: PlanKey(Digest::from_raw([0; 32])),
                    wanted_by: vec![target.name.clone()],
                    output: output.clone(),
                    tags: if is_image { target.tags.clone() } else { Vec::new() },
                    annotations: if is_image { target.annotations.clone() } else { Vec::new() },
                    attestations: target.attestations.clone(),
                    platforms: platforms.clone(),
                    at: target.at(Id::Output),
                    attest_at: target.at(Id::Attest),
                };
                let export = self.add_export(target, export, &nodes.builds);
                nodes.exports.push(export);
            }
        }
        self.diagnostics.extend(target.faults.iter().cloned());
        nodes
    }

    /// The build of a target on no platform yet.
    fn model(&self, target: &Target, multi_platform: bool) -> Build {
        fn owned(pairs: &[(Arc<str>, Arc<str>)]) -> IndexMap<String, String> {
            pairs.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
        }
        let hidden = &self.evaluated.hidden;
        Build {
            key: PlanKey(Digest::from_raw([0; 32])),
            wanted_by: vec![target.name.clone()],
            platform: self.host.clone(),
            explicit_platform: !target.platforms.is_empty(),
            multi_platform,
            context: target.context.clone(),
            dockerfile: target.dockerfile.clone(),
            stage: target.stage.as_ref().map(ToString::to_string),
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
            no_cache: target.no_cache,
            no_cache_filter: target.no_cache_filter.iter().map(ToString::to_string).collect(),
            pull: target.pull,
            secrets: target.secrets.clone(),
            ssh: target.ssh.clone(),
            entitlements: target.entitlements.clone(),
            policies: target.policies.clone(),
            call: target.call.clone(),
            cache_from: target.cache_from.clone(),
            cache_to: target.cache_to.clone(),
            at: target.at,
            places: target.attribute_places().collect(),
        }
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
        let keys = sources.iter().map(|(name, ix)| (name.as_str(), self.plan.graph[*ix].key().0)).collect();
        build.key = PlanKey(build.digest(&keys));
        if let Some(ix) = self.by_key.get(&build.key).copied() {
            if let PlanNode::Build(known) = &mut self.plan.graph[ix] {
                known.wanted_by.push(target.name.clone());
                known.hidden_args.append(&mut build.hidden_args);
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
        let export = self.plan.export(ix);
        let (dest, name) = match export.output.value.writes() {
            Writes::Nothing => return,
            Writes::Stdout => ("-".to_owned(), "stdout"),
            Writes::File(dest) | Writes::Directory(dest) => (clean(&self.cwd.join(dest).to_string_lossy()), dest),
        };
        let Some(other) = self.dests.get(&dest) else {
            self.dests.insert(dest, ix);
            return;
        };
        let other = self.plan.export(*other);
        let merges = |it: &Export| matches!(&it.output.value, Output::Local(local) if local.mode == LocalMode::Copy);
        let layouts = |it: &Export| {
            matches!(it.output.value.writes(), Writes::Directory(_)) && !matches!(it.output.value, Output::Local(_))
        };
        let (mine, theirs) = (&export.wanted_by[0], &other.wanted_by[0]);
        let described = |it: &Export| format!("`{}` writes {}", it.wanted_by[0], it.title());
        let finish = |diagnostic: Diagnostic| {
            let diagnostic = diagnostic.at(export.at, described(export));
            if other.at == export.at { diagnostic } else { diagnostic.at(other.at, described(other)) }
        };
        let diagnostic = if merges(export) && merges(other) {
            finish(Diagnostic::warning(
                "bake::plan::shared_directory",
                format!("targets `{theirs}` and `{mine}` write into one directory: {name}"),
            ))
        } else if layouts(export) && layouts(other) && export.output.exporter() == other.output.exporter() {
            return;
        } else {
            let who = if mine == theirs {
                format!("two outputs of target `{mine}`")
            } else {
                format!("targets `{theirs}` and `{mine}`")
            };
            finish(Diagnostic::error("bake::plan::same_dest", format!("{who} write different things to: {name}")))
                .help("give each its own `dest`")
        };
        self.diagnostics.push(diagnostic);
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

    /// The plan of a bake file in HCL that has no fault.
    pub(crate) fn plan_of(text: &str, names: &[&str]) -> Plan {
        let (plan, faults) =
            make(&evaluated(text, names), &Platform::normalised("linux", "amd64", None), Path::new("/w"));
        assert!(faults.is_empty(), "{faults:?}");
        plan
    }

    fn check(text: &str, names: &[&str]) -> (String, Vec<String>) {
        let (plan, diagnostics) =
            make(&evaluated(text, names), &Platform::normalised("linux", "amd64", None), Path::new("/w"));
        let text = explain::text(&plan);
        let heads = text.lines().filter(|it| it.starts_with("build ") || it.starts_with("export "));
        // The keys are left out.
        let heads: Vec<String> = heads
            .map(|it| it.split("  ").map(|part| part.split(' ').next().unwrap_or("")).collect::<Vec<_>>().join(" "))
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
