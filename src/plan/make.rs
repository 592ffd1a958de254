//! Makes a plan of evaluated targets: one build per distinct work and platform, one export per distinct output.
//!
//! Here is checked what only a build must have right: tags, network, entitlements, methods, types of caches and
//! attestations, destinations that would be written twice.

use std::collections::HashMap;

use indexmap::IndexMap;
use petgraph::graph::NodeIndex;

use super::{
    Build, Export, Plan, PlanKey, PlanLink, PlanNode, TargetNodes,
    build::{BuildNetwork, DockerfileInput},
};
use crate::{
    eval::{
        evaluation::Evaluation,
        target::typed::{Id, Target, TargetName},
    },
    oci::{Digest, Platform, Reference},
    report::{Diagnostic, suggest},
    spec::{
        CallMethod, Entitlement, OptionFault,
        call::Method,
        context::{ContextSource, clean},
        output::{Writes, writes},
    },
};

/// Makes the plan. With errors among the diagnostics it is not to be run.
pub(crate) fn make(evaluated: &Evaluation, host: &Platform) -> (Plan, Vec<Diagnostic>) {
    let mut maker = Maker {
        evaluated,
        host,
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
        let linked = target.entries(Id::Contexts).filter_map(|(_, it)| it.strip_prefix("target:"));
        linked.filter_map(|it| self.find(it)).map(|it| &it.name).collect()
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
        // Told once, whatever the outputs are.
        let (tags, attest) = (self.tags(target), self.attest(target));
        for output in target.outputs() {
            nodes.has_output = true;
            // What is only asked about is not written.
            if output.kind != "cacheonly" && model.call.method == Method::Build {
                let is_image = matches!(output.kind.as_str(), "image" | "registry" | "oci" | "docker");
                let annotations = target.fields.texts(Id::Annotations).iter().map(ToString::to_string);
                let export = Export {
                    key: PlanKey(Digest::from_raw([0; 32])),
                    wanted_by: vec![target.name.clone()],
                    output: output.clone(),
                    tags: if is_image { tags.clone() } else { Vec::new() },
                    annotations: if is_image { annotations.collect() } else { Vec::new() },
                    attest: attest.clone(),
                    platforms: platforms.clone(),
                    at: target.at(Id::Output),
                    annotations_at: target.at(Id::Annotations),
                    attest_at: target.at(Id::Attest),
                };
                let export = self.add_export(target, export, &nodes.builds);
                nodes.exports.push(export);
            }
        }
        nodes
    }

    /// The build of a target on no platform yet.
    fn model(&mut self, target: &'a Target, multi_platform: bool) -> Build {
        let owned = |id: Id| target.entries(id).map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<IndexMap<_, _>>();
        let contexts =
            target.entries(Id::Contexts).map(|(name, text)| (name.to_owned(), ContextSource::parse(text))).collect();
        Build {
            key: PlanKey(Digest::from_raw([0; 32])),
            wanted_by: vec![target.name.clone()],
            platform: self.host.clone(),
            explicit_platform: !target.platforms.is_empty(),
            multi_platform,
            context: ContextSource::parse(target.context()),
            dockerfile: dockerfile(target),
            stage: target.stage().map(str::to_owned),
            args: owned(Id::Args),
            hidden_args: target
                .entries(Id::Args)
                .filter(|(_, value)| self.evaluated.hidden.mask(value) != *value)
                .map(|(name, _)| name.to_owned())
                .collect(),
            labels: owned(Id::Labels),
            contexts,
            network: self.network(target),
            extra_hosts: extra_hosts(target),
            shm_size: target.shm_size,
            ulimits: target.ulimits.clone(),
            resources: target.resources(),
            no_cache: target.no_cache(),
            no_cache_filter: target.no_cache_filter().iter().map(ToString::to_string).collect(),
            pull: target.pull(),
            secrets: target.secrets().cloned().collect(),
            ssh: target.ssh().cloned().collect(),
            entitlements: self
                .each(target, Id::Entitlements, target.entitlements().iter(), |it| Entitlement::parse(it)),
            policies: target.policies().cloned().collect(),
            call: self.call(target),
            cache_from: self.caches(target, Id::CacheFrom),
            cache_to: self.caches(target, Id::CacheTo),
            at: target.at,
            places: target.fields.iter().map(|it| (it.id.row().name, it.at)).collect(),
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
                let new = |all: &[_], it: &_| !all.contains(it);
                let from: Vec<_> = build.cache_from.into_iter().filter(|it| new(&known.cache_from, it)).collect();
                let to: Vec<_> = build.cache_to.into_iter().filter(|it| new(&known.cache_to, it)).collect();
                known.hidden_args.append(&mut build.hidden_args);
                known.cache_from.extend(from);
                known.cache_to.extend(to);
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
        let (dest, name) = match writes(&export.output) {
            Writes::Nothing => return,
            Writes::Stdout => ("-".to_owned(), "stdout"),
            Writes::File(dest) | Writes::Directory(dest) => (clean(dest), dest),
        };
        let Some(other) = self.dests.get(&dest) else {
            self.dests.insert(dest, ix);
            return;
        };
        let other = self.plan.export(*other);
        let merges =
            |it: &Export| it.output.kind == "local" && it.output.attrs.get("mode").is_none_or(|it| it != "delete");
        let layouts = |it: &Export| matches!(writes(&it.output), Writes::Directory(_)) && it.output.kind != "local";
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
        } else if layouts(export) && layouts(other) && export.output.kind == other.output.kind {
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

    fn fault(&mut self, target: &Target, id: Id, path: &str, fault: OptionFault) {
        self.report(target, id, path, fault, Diagnostic::error);
    }

    fn report(
        &mut self,
        target: &Target,
        id: Id,
        path: &str,
        fault: OptionFault,
        make: fn(&'static str, String) -> Diagnostic,
    ) {
        let text = format!("`{}{path}` of target `{}`: {}", id.row().name, target.name, fault.message);
        let mut diagnostic = make("bake::plan::bad_option", text).at(target.at(id), "set here");
        diagnostic.help = fault.help;
        self.diagnostics.push(diagnostic);
    }

    fn each<'t, T, I: 't + ?Sized>(
        &mut self,
        target: &Target,
        id: Id,
        items: impl Iterator<Item = &'t I>,
        parse: impl Fn(&I) -> Result<T, OptionFault>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for (ix, item) in items.enumerate() {
            match parse(item) {
                Ok(it) => all.push(it),
                Err(fault) => self.fault(target, id, &format!("[{ix}]"), fault),
            }
        }
        all
    }

    fn tags(&mut self, target: &Target) -> Vec<String> {
        self.each(target, Id::Tags, target.tags().iter(), |tag| match Reference::parse(tag) {
            Ok(_) => Ok(tag.to_string()),
            Err(error) => Err(OptionFault::new(error.to_string()).help("write [REGISTRY/]NAME[:TAG], in lower case")),
        })
    }

    fn attest(&mut self, target: &Target) -> Vec<crate::spec::Attest> {
        self.each(target, Id::Attest, target.attest(), |it| it.fault().map_or_else(|| Ok(it.clone()), Err))
    }

    fn caches(&mut self, target: &Target, id: Id) -> Vec<crate::spec::RemoteCache> {
        let all: Vec<_> = if id == Id::CacheFrom { target.cache_from().collect() } else { target.cache_to().collect() };
        self.each(target, id, all.into_iter(), |it| it.fault().map_or_else(|| Ok(it.clone()), Err))
    }

    fn network(&mut self, target: &Target) -> BuildNetwork {
        match target.network() {
            None | Some("default") => BuildNetwork::Default,
            Some("none") => BuildNetwork::None,
            Some("host") => BuildNetwork::Host,
            Some(other) => {
                let known = ["default", "none", "host"];
                let help = suggest::did_you_mean(other, known)
                    .unwrap_or_else(|| format!("known networks: {}", known.join(", ")));
                self.fault(target, Id::Network, "", OptionFault::new(format!("not a network: {other}")).help(help));
                BuildNetwork::Default
            }
        }
    }

    fn call(&mut self, target: &Target) -> CallMethod {
        let Some(text) = target.call() else { return CallMethod::default() };
        CallMethod::parse(text).unwrap_or_else(|fault| {
            self.fault(target, Id::Call, "", fault);
            CallMethod::default()
        })
    }
}

fn dockerfile(target: &Target) -> DockerfileInput {
    if let Some(text) = target.dockerfile_inline() {
        return DockerfileInput::Inline(text.to_owned());
    }
    let path = target.dockerfile();
    match path.strip_prefix("cwd://") {
        Some(rest) => DockerfileInput::Local(rest.to_owned()),
        None if path.starts_with('/') => DockerfileInput::Local(path.to_owned()),
        None => DockerfileInput::InContext(path.to_owned()),
    }
}

/// Addresses are split at commas; brackets around IPv6 addresses are dropped.
fn extra_hosts(target: &Target) -> Vec<(String, String)> {
    let split = |(name, addresses): (&str, &str)| {
        let one = |it: &str| it.trim().trim_start_matches('[').trim_end_matches(']').to_owned();
        addresses.split(',').map(|it| (name.to_owned(), one(it))).collect::<Vec<_>>()
    };
    target.entries(Id::ExtraHosts).flat_map(split).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{eval::evaluate::tests::evaluated, plan::explain};

    /// The plan of a bake file in HCL that has no fault.
    pub(crate) fn plan_of(text: &str, names: &[&str]) -> Plan {
        let (plan, faults) = make(&evaluated(text, names), &Platform::normalised("linux", "amd64", None));
        assert!(faults.is_empty(), "{faults:?}");
        plan
    }

    fn check(text: &str, names: &[&str]) -> (String, Vec<String>) {
        let (plan, diagnostics) = make(&evaluated(text, names), &Platform::normalised("linux", "amd64", None));
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
              output = ["type=tar,dest=x.tar"]
            }"#;
        let (_, faults) = check(text, &["a", "b"]);
        assert_eq!(faults, ["targets `a` and `b` write different things to: x.tar"]);
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
