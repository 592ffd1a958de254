//! The fields of a target that `x-bake` adds to: contexts, lists, secrets, ssh keys, switches.

use std::{collections::HashSet, sync::Arc};

use indexmap::IndexMap;

use super::{
    merge::{self, MergeRule},
    target::TargetBuilder,
    value,
};
use crate::{
    definition::{
        kept::has_reference,
        syntax::{Expr, ExprKind},
        yaml::node::{YamlMapping, YamlNode, YamlNodeKind},
    },
    report::{Diagnostic, Span, suggest},
};

/// All keys of `x-bake`.
const X_BAKE_KEYS: [&str; 11] = [
    "cache-from",
    "cache-to",
    "contexts",
    "no-cache",
    "no-cache-filter",
    "output",
    "platforms",
    "pull",
    "secret",
    "ssh",
    "tags",
];

impl TargetBuilder<'_, '_, '_> {
    /// The entries of `build.x-bake` that are set; warns about keys that it does not have.
    pub(super) fn x_bake(&mut self) -> YamlMapping {
        let Some(node) = self.field("x-bake") else { return YamlMapping::new() };
        let Some(entries) = node.mapping() else {
            self.wrong("x-bake", "a mapping", &node, "");
            return YamlMapping::new();
        };
        for (key, entry) in entries {
            if X_BAKE_KEYS.contains(&&**key) {
                continue;
            }
            let message = format!("`x-bake` of service `{}` has no such key: {key}", self.service.name);
            let warning = Diagnostic::warning("bake::compose::unknown_x_bake_key", message).at(entry.at, "ignored");
            let known = X_BAKE_KEYS.map(|it| format!("`{it}`")).join(", ");
            self.loader.fail(
                warning
                    .help(suggest::did_you_mean(key, X_BAKE_KEYS).unwrap_or_else(|| format!("`x-bake` has {known}"))),
            );
        }
        entries
            .iter()
            .filter(|(_, entry)| !entry.node.is_null())
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect()
    }

    /// A list of strings of `x-bake`, or one string split at blanks.
    fn words(&mut self, x_bake: &YamlMapping, key: &str) -> Vec<Expr> {
        let Some(entry) = x_bake.get(key) else { return Vec::new() };
        let node = entry.node.clone();
        match &node.kind {
            YamlNodeKind::String(text) => text.split_whitespace().map(|word| Expr::text(word, node.at)).collect(),
            YamlNodeKind::Sequence(items) if items.iter().all(|item| item.scalar_text().is_some()) => {
                items.iter().map(|item| Expr::text(item.scalar_text().unwrap_or_default(), item.at)).collect()
            }
            _ => {
                self.wrong(&format!("x-bake.{key}"), "a list of strings", &node, "");
                Vec::new()
            }
        }
    }

    /// Adds `contexts`: those of `additional_contexts`, then those of `x-bake` that have other names. `service:NAME`
    /// becomes the target of that service.
    pub(super) fn contexts(&mut self, x_bake: &YamlMapping) {
        let mut all: IndexMap<Arc<str>, (Arc<str>, Span)> = IndexMap::new();
        let own = self.field("additional_contexts");
        let extra = x_bake.get("contexts").map(|entry| entry.node.clone());
        for (what, node) in [("additional_contexts", &own), ("x-bake.contexts", &extra)] {
            let Some(node) = node else { continue };
            for (name, context, at) in self.pair_entries(what, node) {
                if context.is_none() {
                    let service = &self.service.name;
                    let message = format!("an entry of `{what}` of service `{service}` is not `name=context`: {name}");
                    let fault = Diagnostic::error("bake::compose::wrong_type", message).at(at, "a context is missing");
                    self.loader.fail(fault.help(format!("write {name}=./directory")));
                    continue;
                }
                let context = self.context(&name, &context.unwrap_or_default(), at);
                all.entry(name).or_insert((context, at));
            }
        }
        let at = own.or(extra).map(|node| node.at);
        if let Some(at) = at.filter(|_| !all.is_empty()) {
            let entries =
                all.into_iter().map(|(name, (context, at))| (Expr::text(name, at), Expr::text(context, at))).collect();
            self.add("contexts", at, Expr::new(ExprKind::Object(entries), at));
        }
    }

    /// `service:x` as the target of that service.
    fn context(&mut self, name: &str, context: &str, at: Span) -> Arc<str> {
        if let Some(service) = context.strip_prefix("service:") {
            let services = self.service.services;
            let found = services.get(service);
            let buildable = found.is_some_and(|entry| entry.node.get("build").is_some_and(|build| !build.is_null()));
            if !buildable {
                let what = if found.is_some() { "is not built" } else { "is not there" };
                let message =
                    format!("context `{name}` of service `{}` is a service that {what}: {service}", self.service.name);
                let fault =
                    Diagnostic::error("bake::compose::unknown_service", message).at(at, format!("this service {what}"));
                self.loader.fail(match suggest::did_you_mean(service, services.keys().map(|key| &**key)) {
                    Some(help) if found.is_none() => fault.help(help),
                    _ => fault,
                });
            }
        }
        match context.strip_prefix("service:").or_else(|| context.strip_prefix("target:")) {
            Some(target) => format!("target:{}", target.replace('.', "_")).into(),
            None => context.into(),
        }
    }

    /// Adds the attributes that are lists of strings: those of `build`, then those of `x-bake`. Without any tag,
    /// `image` of the service is the tag.
    pub(super) fn lists(&mut self, x_bake: &YamlMapping) {
        for (key, attribute, once) in [
            ("tags", "tags", true),
            ("platforms", "platforms", true),
            ("no_cache_filter", "no-cache-filter", true),
            ("cache_from", "cache-from", false),
            ("cache_to", "cache-to", false),
            ("", "output", false),
        ] {
            let own = self.field(key).map(|node| {
                merge::canonical(&node, if key == "no_cache_filter" { MergeRule::List } else { MergeRule::Plain })
            });
            let mut all = own.as_ref().map(|node| self.strings(key, node)).unwrap_or_default();
            all.extend(self.words(x_bake, attribute));
            if key == "tags" && all.is_empty() {
                all.extend(self.image());
            }
            if once {
                let mut seen = HashSet::new();
                all.retain(|expr| !matches!(&expr.kind, ExprKind::String(text) if !seen.insert(text.clone())));
            }
            if let Some(at) =
                own.map(|node| node.at).or_else(|| all.first().map(|expr| expr.at)).filter(|_| !all.is_empty())
            {
                self.add(attribute, at, Expr::new(ExprKind::Tuple(all), at));
            }
        }
    }

    fn image(&mut self) -> Option<Expr> {
        let image = self.service.entry.node.get("image").filter(|image| !image.is_null()).cloned()?;
        self.loader.warn_unset(&image);
        let text = self.string("image", &image).filter(|text| !text.is_empty())?;
        Some(Expr::text(text, image.at))
    }

    /// Adds `secret`: the secrets of `build`, looked up in the top-level `secrets`, then those of `x-bake`.
    pub(super) fn secrets(&mut self, x_bake: &YamlMapping) {
        let own = self.field("secrets");
        let mut all = Vec::new();
        if let Some(node) = &own {
            let Some(items) = node.sequence() else {
                self.wrong("secrets", "a list", node, "write `secrets: [name]`");
                return;
            };
            for item in items {
                let source = match &item.kind {
                    YamlNodeKind::Mapping(_) => item.get("source").unwrap_or(item),
                    _ => item,
                };
                if let Some(id) = self.string("secrets", source) {
                    all.extend(self.secret(&id, source.at));
                }
            }
        }
        all.extend(self.words(x_bake, "secret"));
        if let Some(at) = all.first().map(|expr| expr.at) {
            self.add("secret", at, Expr::new(ExprKind::Tuple(all), at));
        }
    }

    fn secret(&mut self, id: &Arc<str>, at: Span) -> Option<Expr> {
        let secrets = self.service.secrets;
        let Some(entry) = secrets.get(id) else {
            let message = format!("service `{}` needs a secret that is not there: {id}", self.service.name);
            let fault = Diagnostic::error("bake::compose::unknown_secret", message).at(at, "no secret of this name");
            let near = suggest::did_you_mean(id, secrets.keys().map(|key| &**key));
            let help = near.unwrap_or_else(|| format!("define it at the top: `secrets: {{{id}: {{file: ./{id}}}}}`"));
            self.loader.fail(fault.help(help));
            return None;
        };
        self.loader.warn_unset(&entry.node);
        let mut entries = vec![(Expr::text("id", at), Expr::text(id.clone(), at))];
        if let Some(external) =
            entry.node.get("external").filter(|external| external.scalar_text().as_deref() != Some("false"))
        {
            let fault = Diagnostic::error(
                "bake::compose::external_secret",
                format!("an external secret cannot be used in a build: {id}"),
            )
            .at(external.at, "external")
            .help("give it a `file` or an `environment`");
            self.loader.fail(fault);
            return None;
        }
        for (key, name) in [("file", "src"), ("environment", "env")] {
            let Some(node) = entry.node.get(key).filter(|node| !node.is_null()).cloned() else { continue };
            if let Some(text) = self.string(&format!("secrets.{id}.{key}"), &node).filter(|text| !text.is_empty()) {
                entries.push((Expr::text(name, node.at), Expr::text(text, node.at)));
            }
        }
        Some(Expr::new(ExprKind::Object(entries), at))
    }

    /// Adds `ssh`: the keys of `build`, then those of `x-bake`, which replace keys of the same id. Sorted by id.
    pub(super) fn ssh(&mut self, x_bake: &YamlMapping) {
        let mut all: IndexMap<Arc<str>, (Vec<Arc<str>>, Span)> = IndexMap::new();
        if let Some(node) = self.field("ssh") {
            for (id, path, at) in self.pair_entries("ssh", &node) {
                if path.is_none() && &*id != "default" {
                    let message = format!("an ssh key of service `{}` has no path: {id}", self.service.name);
                    let fault = Diagnostic::error("bake::compose::ssh", message)
                        .at(at, "no path")
                        .help(format!("write `{id}=path`, or `default`"));
                    self.loader.fail(fault);
                }
                all.insert(id, (path.filter(|path| !path.is_empty()).into_iter().collect(), at));
            }
        }
        for word in self.words(x_bake, "ssh") {
            let ExprKind::String(text) = &word.kind else { continue };
            let (id, paths) = text.split_once('=').unwrap_or((text, ""));
            let paths = paths.split(',').filter(|path| !path.is_empty()).map(Arc::from).collect();
            all.insert(id.into(), (paths, word.at));
        }
        all.sort_keys();
        let Some(at) = all.first().map(|(_, (_, at))| *at) else { return };
        let item = |(id, (paths, at)): (Arc<str>, (Vec<Arc<str>>, Span))| {
            let mut entries = vec![(Expr::text("id", at), Expr::text(id, at))];
            if !paths.is_empty() {
                let paths = paths.into_iter().map(|path| Expr::text(path, at)).collect();
                entries.push((Expr::text("paths", at), Expr::new(ExprKind::Tuple(paths), at)));
            }
            Expr::new(ExprKind::Object(entries), at)
        };
        self.add("ssh", at, Expr::new(ExprKind::Tuple(all.into_iter().map(item).collect()), at));
    }

    /// Adds `no-cache` and `pull`, which are `true` or `false`; those of `x-bake` win.
    pub(super) fn switches(&mut self, x_bake: &YamlMapping) {
        for (key, attribute) in [("no_cache", "no-cache"), ("pull", "pull")] {
            let own = self.field(key).and_then(|node| self.switch(key, &node));
            let extra = x_bake.get(attribute).map(|entry| entry.node.clone());
            let extra = extra.and_then(|node| self.switch(&format!("x-bake.{attribute}"), &node));
            // A plain `false` says nothing; that of `x-bake` does.
            if let Some(switch) = extra.or(own.filter(|switch| !matches!(switch.kind, ExprKind::Bool(false)))) {
                self.add(attribute, switch.at, switch);
            }
        }
    }

    /// `true` or `false`, or a variable that is kept.
    fn switch(&mut self, what: &str, node: &YamlNode) -> Option<Expr> {
        if let Some(text) = node.str().filter(|text| has_reference(text)) {
            return Some(Expr::text(text.clone(), node.at));
        }
        let on = node
            .scalar_text()
            .filter(|_| !matches!(node.kind, YamlNodeKind::Number(_)))
            .and_then(|text| value::boolean(&text));
        if on.is_none() {
            self.wrong(what, "`true` or `false`", node, "");
        }
        on.map(|on| Expr::new(ExprKind::Bool(on), node.at))
    }
}
