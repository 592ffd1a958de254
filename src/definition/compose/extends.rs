//! `extends`: a service merged onto another one of the same or another file
//! (<https://github.com/compose-spec/compose-spec/blob/main/05-services.md#extends>).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    merge::{self, MergeRule},
    model::{ComposeFile, ComposeLink, ComposeResult, ComposeScope, Loader, enter},
    value,
};
use crate::{
    definition::yaml::node::{YamlMapping, YamlNode, YamlNodeKind},
    report::{Diagnostic, Span, suggest},
};

impl Loader<'_> {
    /// Replaces every service that has `extends` by its merged form
    /// (<https://github.com/compose-spec/compose-spec/blob/main/05-services.md#extends>).
    pub(super) fn extend_all(&mut self, file: &ComposeFile, services: &mut YamlMapping, scope: &ComposeScope) {
        let local = Arc::new(services.clone());
        let mut done = HashMap::new();
        // Services of a broken chain: its error is reported once.
        let mut broken: BTreeSet<String> = BTreeSet::new();
        for (name, entry) in services.iter_mut() {
            if entry.node.get("extends").is_none() || broken.contains(&link_name(&file.name, name)) {
                continue;
            }
            let mut chain = Vec::new();
            match self.extended(&file.name, &local, name, scope, &mut chain, &mut done) {
                Ok(node) => entry.node = node,
                Err(fault) => {
                    if !chain.iter().any(|(link, _)| broken.contains(link)) {
                        self.linked::<()>(Err(fault));
                    }
                    broken.extend(chain.into_iter().map(|(link, _)| link));
                }
            }
        }
    }

    /// A service merged onto the one that it extends. `done` remembers results by file and name.
    fn extended(
        &mut self,
        file: &str,
        services: &Arc<YamlMapping>,
        name: &Arc<str>,
        scope: &ComposeScope,
        chain: &mut Vec<ComposeLink>,
        done: &mut HashMap<(String, Arc<str>), Arc<YamlNode>>,
    ) -> ComposeResult<Arc<YamlNode>> {
        let Some(entry) = services.get(name) else {
            return Err(Box::new(Diagnostic::error(
                "bake::compose::unknown_service",
                format!("no such service: {name}"),
            )));
        };
        let key = (file.to_owned(), name.clone());
        if let Some(known) = done.get(&key) {
            return Ok(known.clone());
        }
        let Some(extends) = entry.node.get("extends").filter(|extends| !extends.is_null()) else {
            return Ok(entry.node.clone());
        };
        let wrong = |at: Span| {
            Box::new(
                Diagnostic::error(
                    "bake::compose::wrong_type",
                    format!("`extends` of service `{name}` names no service"),
                )
                .at(at, "no service")
                .help("write `extends: {service: other}`"),
            )
        };
        self.warn_unset(extends);
        let (base_name, base_at) = match &extends.kind {
            YamlNodeKind::String(service) => (service.clone(), extends.at),
            _ => {
                let service = extends.get("service").ok_or_else(|| wrong(extends.at))?;
                (service.str().ok_or_else(|| wrong(service.at))?.clone(), service.at)
            }
        };
        enter(
            chain,
            &link_name(file, name),
            entry.at,
            "bake::compose::extends_cycle",
            "services extend one another in a circle",
        )?;
        let from = extends.get("file").filter(|from| !from.is_null());
        let (base_file, base_services) =
            match from.map(|from| from.str().ok_or_else(|| wrong(from.at)).map(|path| (path, from.at))) {
                Some(from) => {
                    let (path, at) = from?;
                    (path.to_string(), self.services_of(path, at, scope)?)
                }
                None => (file.to_owned(), services.clone()),
            };
        if !base_services.contains_key(&base_name) {
            let place = if from.is_some() { format!(" in {base_file}") } else { String::new() };
            let fault = Diagnostic::error(
                "bake::compose::unknown_service",
                format!("service `{name}` extends a service that is not there{place}: {base_name}"),
            )
            .at(base_at, "no service of this name");
            let known = base_services.keys().map(|key| &**key);
            return Err(Box::new(match suggest::did_you_mean(&base_name, known) {
                Some(help) => fault.help(help),
                None => fault,
            }));
        }
        let base = self.extended(&base_file, &base_services, &base_name, scope, chain, done)?;
        chain.pop();
        let base = merge::settled(&base)
            .unwrap_or_else(|| Arc::new(YamlNode::new(YamlNodeKind::Mapping(YamlMapping::new()), base.at)));
        let merged = without_extends(&merge::merge(&base, &entry.node, MergeRule::Service)?);
        done.insert(key, merged.clone());
        Ok(merged)
    }

    /// The services of another file, as they stand there.
    fn services_of(&mut self, path: &str, at: Span, scope: &ComposeScope) -> ComposeResult<Arc<YamlMapping>> {
        let key = (at.source, path.to_owned());
        if let Some(known) = self.read.get(&key) {
            return Ok(known.clone());
        }
        let file = self.file(path, at)?;
        let inner = ComposeScope { env: scope.env.clone(), folder: value::folder(path) };
        let mut services = YamlMapping::new();
        for entries in file.documents.iter().filter_map(|document| document.mapping()) {
            let own = self.services(entries, &inner);
            self.merge_all(&mut services, own, MergeRule::Service);
        }
        let services = Arc::new(services);
        self.read.insert(key, services.clone());
        Ok(services)
    }
}

/// The service as it is once it has been extended.
fn without_extends(node: &Arc<YamlNode>) -> Arc<YamlNode> {
    let YamlNodeKind::Mapping(entries) = &node.kind else { return node.clone() };
    let rest = entries.iter().filter(|(key, _)| &***key != "extends").map(|(key, entry)| (key.clone(), entry.clone()));
    Arc::new(YamlNode::new(YamlNodeKind::Mapping(rest.collect()), node.at).with(node.action))
}

/// The name of a service in the messages about a chain: its file and its own name.
fn link_name(file: &str, service: &str) -> String {
    format!("{file}:{service}")
}
