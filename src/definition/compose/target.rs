//! One merged service ─► one target block, with every value checked where it was written.

use std::{collections::BTreeMap, sync::Arc};

use indexmap::IndexMap;

use super::{
    merge::{self, MergeRule},
    model::{ComposeScope, Loader, missing_file},
    value,
};
use crate::{
    definition::{
        kept::{ReferenceOperation, VariableReference, has_reference},
        read::ReadReason,
        syntax::{AttributeSyntax, Block, Body, Expr, ExprKind},
        yaml::node::{YamlEntry, YamlNode, YamlNodeKind},
    },
    report::{Diagnostic, SourceId, Span, Spanned, suggest},
};

/// All keys of `build`.
const BUILD_KEYS: [&str; 24] = [
    "additional_contexts",
    "args",
    "cache_from",
    "cache_to",
    "context",
    "dockerfile",
    "dockerfile_inline",
    "entitlements",
    "extra_hosts",
    "isolation",
    "labels",
    "network",
    "no_cache",
    "no_cache_filter",
    "platforms",
    "privileged",
    "provenance",
    "pull",
    "sbom",
    "secrets",
    "shm_size",
    "ssh",
    "tags",
    "target",
];
/// `ulimits` is the last; `x-…` keys are allowed besides.
const ULIMITS: &str = "ulimits";

type Named = IndexMap<Arc<str>, YamlEntry>;
/// One `KEY=value` or `KEY: value`, and where the value stands; `None` if the key stands alone.
type KeyValue = (Arc<str>, Option<Arc<str>>, Span);

impl Loader<'_> {
    /// Makes a target block for each service that has a build, and the group `default` of them.
    pub(super) fn targets(
        &mut self,
        source: SourceId,
        services: &Named,
        secrets: &Named,
        scope: &ComposeScope,
    ) -> Body {
        let mut body = Body { attributes: Vec::new(), blocks: Vec::new(), at: Span { source, start: 0, end: 0 } };
        let mut members = Vec::new();
        let mut taken: IndexMap<String, Span> = IndexMap::new();
        for (name, entry) in services {
            let Some(build) = self.build_of(name, entry) else { continue };
            let target = name.replace('.', "_");
            if !self.check_name(name, &target, entry.at, &mut taken) {
                continue;
            }
            self.warn_unset(&build);
            let service = Service { name, entry, build: &build, services, secrets, scope };
            let attributes = TargetBuilder { loader: self, attributes: Vec::new(), service }.attributes();
            members.push(Expr::text(target.as_str(), entry.at));
            let inner = Body { attributes, blocks: Vec::new(), at: entry.node.at };
            body.blocks.push(block("target", &target, entry.at, inner));
        }
        if let Some((_, entry)) = services.first() {
            let targets = Expr::new(ExprKind::Tuple(members), entry.at);
            let attribute = AttributeSyntax { name: Spanned::new("targets".into(), entry.at), expr: targets };
            let inner = Body { attributes: vec![attribute], blocks: Vec::new(), at: entry.at };
            body.blocks.push(block("group", "default", entry.at, inner));
        }
        body
    }

    /// The `build` of a service as a mapping, if it has one.
    fn build_of(&mut self, name: &str, entry: &YamlEntry) -> Option<Arc<YamlNode>> {
        let build = entry.node.get("build").filter(|build| !build.is_null());
        let Some(build) = build else {
            if entry.node.get("image").is_none_or(|image| image.is_null()) {
                self.fail(
                    Diagnostic::error(
                        "bake::compose::no_image",
                        format!("service `{name}` has neither an image nor a build"),
                    )
                    .at(entry.at, "neither `image` nor `build` here")
                    .help("add `build: .`"),
                );
            }
            return None;
        };
        let build = merge::canonical(build, MergeRule::Build);
        if build.mapping().is_none() {
            self.fail(
                Diagnostic::error(
                    "bake::compose::wrong_type",
                    format!("`build` of service `{name}` must be a string or a mapping, got {}", build.word()),
                )
                .at(build.at, "neither a string nor a mapping")
                .help("write `build: ./folder`"),
            );
            return None;
        }
        Some(build)
    }

    fn check_name(&mut self, name: &str, target: &str, at: Span, taken: &mut IndexMap<String, Span>) -> bool {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if target.is_empty() || !target.chars().all(fits) {
            self.fail(
                Diagnostic::error("bake::compose::bad_name", format!("not a name for a service that is built: {name}"))
                    .at(at, "letters, digits, `_`, `-` and `.` are allowed"),
            );
            return false;
        }
        if let Some(before) = taken.insert(target.to_owned(), at) {
            self.fail(
                Diagnostic::error("bake::compose::same_name", format!("two services become one target: {target}"))
                    .at(at, "this one")
                    .at(before, "and this one")
                    .help("rename one; a `.` becomes `_`"),
            );
            return false;
        }
        true
    }
}

fn block(kind: &str, label: &str, at: Span, body: Body) -> Block {
    Block { kind: Spanned::new(kind.into(), at), labels: vec![Spanned::new(label.into(), at)], body, at }
}

/// A service with a `build`, and the secrets and services that it may refer to.
pub(super) struct Service<'s> {
    pub(super) name: &'s str,
    pub(super) entry: &'s YamlEntry,
    build: &'s Arc<YamlNode>,
    pub(super) services: &'s Named,
    pub(super) secrets: &'s Named,
    scope: &'s ComposeScope,
}

/// Makes the attributes of the target of one service, and checks every value where it was written.
pub(super) struct TargetBuilder<'l, 'a, 's> {
    pub(super) loader: &'l mut Loader<'a>,
    attributes: Vec<AttributeSyntax>,
    pub(super) service: Service<'s>,
}

impl TargetBuilder<'_, '_, '_> {
    fn attributes(mut self) -> Vec<AttributeSyntax> {
        self.check_build_keys();
        for (key, attribute) in [
            ("context", "context"),
            ("dockerfile", "dockerfile"),
            ("dockerfile_inline", "dockerfile-inline"),
            ("target", "target"),
            ("network", "network"),
        ] {
            if let Some((text, at)) = self.text(key).filter(|(text, _)| !text.is_empty()) {
                self.add(attribute, at, Expr::text(text, at));
            }
        }
        self.check_dockerfile();
        self.args();
        self.pairs("labels", "labels");
        self.hosts();
        self.ulimits();
        self.shm_size();
        self.attestations();
        let x_bake = self.x_bake();
        self.contexts(&x_bake);
        self.lists(&x_bake);
        self.secrets(&x_bake);
        self.ssh(&x_bake);
        self.switches(&x_bake);
        self.attributes
    }

    /// The value of a key of `build`; `None` if it is missing or null.
    pub(super) fn field(&self, key: &str) -> Option<Arc<YamlNode>> {
        self.service.build.get(key).filter(|node| !node.is_null()).cloned()
    }

    /// Adds an attribute to the target; `at` becomes the place of its name.
    pub(super) fn add(&mut self, name: &str, at: Span, expr: Expr) {
        self.attributes.push(AttributeSyntax { name: Spanned::new(name.into(), at), expr });
    }

    /// Records that a value has the wrong type: `what` of the service must be `wanted`. An empty `help` is left out.
    pub(super) fn wrong(&mut self, what: &str, wanted: &str, node: &YamlNode, help: &str) {
        let message = format!("`{what}` of service `{}` must be {wanted}, got {}", self.service.name, node.word());
        let fault = Diagnostic::error("bake::compose::wrong_type", message).at(node.at, format!("not {wanted}"));
        self.loader.fail(if help.is_empty() { fault } else { fault.help(help) });
    }

    fn check_build_keys(&mut self) {
        let known = || BUILD_KEYS.into_iter().chain([ULIMITS, "x-bake"]);
        for (key, entry) in self.service.build.mapping().into_iter().flatten() {
            if key.starts_with("x-") || known().any(|it| it == &**key) {
                continue;
            }
            let message = format!("`build` of service `{}` has no such key: {key}", self.service.name);
            let fault =
                Diagnostic::error("bake::compose::unknown_build_key", message).at(entry.at, "not a key of `build`");
            self.loader.fail(match suggest::did_you_mean(key, known()) {
                Some(help) => fault.help(help),
                None => fault.help(format!(
                    "`build` has {}",
                    known().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
                )),
            });
        }
    }

    fn check_dockerfile(&mut self) {
        let set = |name: &str| self.attributes.iter().find(|attribute| &*attribute.name.value == name);
        if let (Some(file), Some(inline)) = (set("dockerfile"), set("dockerfile-inline")) {
            let message = format!("service `{}` has both `dockerfile` and `dockerfile_inline`", self.service.name);
            let fault = Diagnostic::error("bake::compose::two_dockerfiles", message)
                .at(inline.name.at, "the text of a Dockerfile")
                .at(file.name.at, "the name of another")
                .help("keep one of the two");
            self.loader.fail(fault);
        }
    }

    /// The text of a string; records a fault and returns `None` for anything else.
    pub(super) fn string(&mut self, what: &str, node: &YamlNode) -> Option<Arc<str>> {
        let text = node.str().cloned();
        if text.is_none() {
            let help = node.scalar_text().map(|text| format!("put it in quotes: \"{text}\"")).unwrap_or_default();
            self.wrong(what, "a string", node, &help);
        }
        text
    }

    fn text(&mut self, key: &str) -> Option<(Arc<str>, Span)> {
        let node = self.field(key)?;
        Some((self.string(key, &node)?, node.at))
    }

    /// The items of a list of strings, as expressions; records a fault for anything else.
    pub(super) fn strings(&mut self, what: &str, node: &YamlNode) -> Vec<Expr> {
        let Some(items) = node.sequence() else {
            let help = node.scalar_text().map(|text| format!("write `[\"{text}\"]`")).unwrap_or_default();
            self.wrong(what, "a list", node, &help);
            return Vec::new();
        };
        let items = items.iter().filter_map(|item| Some(Expr::text(self.string(what, item)?, item.at)));
        items.collect()
    }

    /// The entries of a mapping or of a `KEY=value` list.
    pub(super) fn pair_entries(&mut self, what: &str, node: &Arc<YamlNode>) -> Vec<KeyValue> {
        let node = merge::canonical(node, MergeRule::Pairs);
        let Some(entries) = node.mapping() else {
            self.wrong(what, "a mapping or a list", &node, "write `KEY: value` lines below it");
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (key, entry) in entries {
            let value = entry.node.scalar_text();
            if value.is_none() && !entry.node.is_null() {
                self.wrong(&format!("{what}.{key}"), "a string, a number or a bool", &entry.node, "");
                continue;
            }
            pairs.push((key.clone(), value, if entry.node.is_null() { entry.at } else { entry.node.at }));
        }
        pairs
    }

    fn args(&mut self) {
        // The files must exist even if no argument takes a value from them.
        let environment = self.environment();
        let Some(node) = self.field("args") else { return };
        let mut pairs = self.pair_entries("args", &node);
        self.keep_lookups(&mut pairs, &environment);
        let own = self.service.entry.node.get("environment").map(|node| merge::canonical(node, MergeRule::Pairs));
        for (name, _, _) in pairs.iter().filter(|(_, value, _)| value.is_none()) {
            own.as_ref().and_then(|own| own.get(name)).into_iter().for_each(|value| self.loader.warn_unset(value));
        }
        let lookup = |name: &str| {
            environment.get(name).or_else(|| self.service.scope.env.get(name)).map(|value| Arc::from(value.as_str()))
        };
        let entries = pairs.into_iter().filter_map(|(key, value, at)| {
            let value = value.or_else(|| lookup(&key))?;
            Some((Expr::text(key, at), Expr::text(value, at)))
        });
        let entries: Vec<_> = entries.collect();
        if !entries.is_empty() {
            self.add("args", node.at, Expr::new(ExprKind::Object(entries), node.at));
        }
    }

    /// Where variables are kept: gives arguments without a value one that is looked up when the bake file is used.
    fn keep_lookups(&mut self, pairs: &mut [KeyValue], environment: &BTreeMap<String, String>) {
        let files = self.env_files();
        let Some(kept) = &mut self.loader.kept else { return };
        let mut lost = None;
        for (name, value, at) in pairs.iter_mut().filter(|(_, value, _)| value.is_none()) {
            let reference = || VariableReference { name: name.to_string(), operation: ReferenceOperation::Lookup };
            let text = environment.get(&**name).cloned().unwrap_or_else(|| kept.keep(reference()));
            if has_reference(&text) {
                lost = Some((name.clone(), *at));
            }
            *value = Some(text.into());
        }
        if let (Some((name, at)), Some((path, ..))) = (lost, files.first()) {
            let message = format!("values of an `env_file` are not written into the bake file: {path}");
            let warning = Diagnostic::warning("bake::compose::kept_variable", message)
                .at(at, format!("`{name}` is looked up in the environment of `bake`"))
                .help(format!("give the file, as in `bake --var-file={path}`"));
            self.loader.fail(warning);
        }
    }

    /// The environment of the service: its files, then its own values. Where variables are kept, only what the Compose file
    /// itself says.
    fn environment(&mut self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let outer = self.service.scope.env.clone();
        if let Some(node) = self.service.entry.node.get("environment").filter(|node| !node.is_null()).cloned() {
            for (key, value, _) in self.pair_entries("environment", &node) {
                let outside = || outer.get(&*key).filter(|_| self.loader.kept.is_none()).cloned();
                if let Some(value) = value.map(|value| value.to_string()).or_else(outside) {
                    all.insert(key.to_string(), value);
                }
            }
        }
        if self.loader.kept.is_some() {
            return all;
        }
        for (path, required, at) in self.env_files() {
            let mut seen = outer.clone();
            seen.extend(all.iter().map(|(name, value)| (name.clone(), value.clone())));
            match self.loader.dotenv(&path, ReadReason::Named(at), &seen) {
                Some(Some(values)) => values.into_iter().for_each(|(name, value)| {
                    all.entry(name).or_insert(value);
                }),
                Some(None) if required => self.loader.fail(*missing_file(&path, at)),
                _ => (),
            }
        }
        all
    }

    /// The files of variables, last first, each with whether it must exist.
    fn env_files(&mut self) -> Vec<(String, bool, Span)> {
        let Some(node) = self.service.entry.node.get("env_file").filter(|node| !node.is_null()).cloned() else {
            return Vec::new();
        };
        let node = merge::canonical(&node, MergeRule::List);
        let Some(items) = node.sequence() else {
            self.wrong("env_file", "a string or a list", &node, "");
            return Vec::new();
        };
        let mut files = Vec::new();
        for item in items.iter().rev() {
            let path = match &item.kind {
                YamlNodeKind::Mapping(_) => item.get("path").unwrap_or(item),
                _ => item,
            };
            let required =
                item.get("required").and_then(|required| required.scalar_text()).is_none_or(|text| &*text != "false");
            self.loader.warn_unset(path);
            if let Some(text) = self.string("env_file", path) {
                files.push((text.to_string(), required, path.at));
            }
        }
        files
    }

    /// The entries as a map of texts; a key without a value gets the empty text.
    fn pairs(&mut self, key: &str, attribute: &str) {
        let Some(node) = self.field(key) else { return };
        let pairs = self.pair_entries(key, &node);
        let entries: Vec<_> = pairs
            .into_iter()
            .map(|(key, value, at)| (Expr::text(key, at), Expr::text(value.unwrap_or_default(), at)))
            .collect();
        if !entries.is_empty() {
            self.add(attribute, node.at, Expr::new(ExprKind::Object(entries), node.at));
        }
    }

    fn hosts(&mut self) {
        let Some(node) = self.field("extra_hosts") else { return };
        let hosts = merge::canonical(&node, MergeRule::Hosts);
        let Some(entries) = hosts.mapping() else {
            match node
                .sequence()
                .and_then(|items| items.iter().find(|item| item.str().is_none_or(|text| !text.contains(['=', ':']))))
            {
                Some(item) => self.wrong("extra_hosts", "a list of `host=address`", item, "write `host=10.0.0.1`"),
                None => self.wrong("extra_hosts", "a mapping or a list", &node, "write `host: 10.0.0.1`"),
            }
            return;
        };
        let mut all = Vec::new();
        for (host, entry) in entries {
            let addresses = match &entry.node.kind {
                YamlNodeKind::Null => Vec::new(),
                _ => self.strings("extra_hosts", &entry.node),
            };
            let bare = |expr: &Expr| match &expr.kind {
                ExprKind::String(text) => {
                    text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text).to_owned()
                }
                _ => String::new(),
            };
            let joined = addresses.iter().map(bare).collect::<Vec<_>>().join(",");
            all.push((Expr::text(host.clone(), entry.at), Expr::text(joined, entry.node.at)));
        }
        if !all.is_empty() {
            self.add("extra-hosts", node.at, Expr::new(ExprKind::Object(all), node.at));
        }
    }

    fn ulimits(&mut self) {
        let Some(node) = self.field(ULIMITS) else { return };
        let Some(entries) = node.mapping() else {
            self.wrong(ULIMITS, "a mapping", &node, "write `nofile: {soft: 1024, hard: 2048}`");
            return;
        };
        let mut all: Vec<(String, Span)> = Vec::new();
        for (name, entry) in entries {
            let limit = |node: Option<&Arc<YamlNode>>| {
                let is_number = |text: &Arc<str>| has_reference(text) || text.parse::<i64>().is_ok();
                node.and_then(|node| node.scalar_text()).filter(is_number)
            };
            let pair = match &entry.node.kind {
                YamlNodeKind::Mapping(_) => limit(entry.node.get("soft")).zip(limit(entry.node.get("hard"))),
                _ => limit(Some(&entry.node)).map(|one| (one.clone(), one)),
            };
            match pair {
                Some((soft, hard)) => all.push((format!("{name}={soft}:{hard}"), entry.node.at)),
                None => self.wrong(
                    &format!("ulimits.{name}"),
                    "a whole number, or `soft` and `hard`",
                    &entry.node,
                    "write `{soft: 1024, hard: 2048}`",
                ),
            }
        }
        all.sort();
        if !all.is_empty() {
            let items = all.into_iter().map(|(text, at)| Expr::text(text, at)).collect();
            self.add("ulimits", node.at, Expr::new(ExprKind::Tuple(items), node.at));
        }
    }

    fn shm_size(&mut self) {
        let Some(node) = self.field("shm_size") else { return };
        if let Some(text) = node.scalar_text().filter(|text| has_reference(text)) {
            return self.add("shm-size", node.at, Expr::text(text, node.at));
        }
        match node.scalar_text().and_then(|text| crate::spec::size::parse(&text).ok()) {
            Some(0) => (),
            Some(size) => self.add("shm-size", node.at, Expr::text(value::bytes_text(size), node.at)),
            None => self.wrong("shm_size", "a size such as `64m`", &node, ""),
        }
    }

    fn attestations(&mut self) {
        let mut all = Vec::new();
        for kind in ["sbom", "provenance"] {
            let Some(node) = self.field(kind) else { continue };
            let Some(text) = node.scalar_text() else {
                self.wrong(kind, "a bool or a string", &node, "");
                continue;
            };
            if text.is_empty() {
                continue;
            }
            if has_reference(&text) {
                let message = format!("`{kind}` of service `{}` is a variable, which is left out", self.service.name);
                let warning =
                    Diagnostic::warning("bake::compose::kept_variable", message).at(node.at, "not translated");
                self.loader.fail(warning.help(format!("write it in the bake file: attest = [\"type={kind}\"]")));
                continue;
            }
            let spec = match value::switch(&text) {
                Some(on) => format!("type={kind},disabled={}", !on),
                None => format!("type={kind},{text}"),
            };
            all.push(Expr::text(spec, node.at));
        }
        if let Some(at) = all.first().map(|expr| expr.at) {
            self.add("attest", at, Expr::new(ExprKind::Tuple(all), at));
        }
    }
}
