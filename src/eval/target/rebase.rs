//! Paths of a file that does not lie in the working directory: joined to the folder of the file that sets them. In an
//! included file these are all paths, with `BUILDX_BAKE_FILE_RELATIVE_PATHS` the contexts.
//!
//! Works on texts; nothing is looked up.

use std::sync::Arc;

use super::field::{Field, Item};
use crate::{
    definition::{
        attribute::{AttributeRow, Id},
        syntax::{Expr, ExprKind},
    },
    eval::{expression::scope::Scope, function::path::path_in},
    report::SourceId,
    spec::context::ContextSource,
};

impl Scope<'_> {
    /// The folder that paths of a file are relative to, if it is not the working directory.
    pub(in crate::eval) fn folder(&self, source: SourceId) -> Option<&str> {
        self.input.folders.get(&source).map(String::as_str)
    }

    /// Resolves the paths of a field against the folder of the file that sets it.
    pub(in crate::eval) fn rebased(&self, row: &AttributeRow, field: Field, expr: &Expr) -> Field {
        if self.input.folders.is_empty() {
            return field;
        }
        let is_context = matches!(row.id, Id::Context | Id::Contexts);
        let source = if is_context { self.origin(expr) } else { expr.at.source };
        let Some(folder) = self.folder(source) else { return field };
        let is_included = self.namespace(expr.at).included.is_some();
        match field {
            Field::Text(text) if is_context => Field::Text(context_in(&text, folder, is_included)),
            Field::Entries(entries) if is_context => Field::Entries(Arc::new(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), value.as_ref().map(|it| context_in(it, folder, is_included))))
                    .collect(),
            )),
            Field::Items(mut items) if is_included => {
                Arc::make_mut(&mut items).iter_mut().for_each(|it| item_in(it, folder));
                Field::Items(items)
            }
            other => other,
        }
    }

    /// The file that a context comes from: that of the expression, or of the target whose context it is.
    fn origin(&self, expr: &Expr) -> SourceId {
        let mut expr = expr;
        const MAX_STEPS: usize = 100;
        for _ in 0..MAX_STEPS {
            let Some(name) = context_of(expr) else { break };
            let name = self.namespace(expr.at).full_name(name);
            let mut blocks = self.expanded().iter().filter(|it| it.is_target() && it.name == name);
            let Some(found) = blocks.find_map(|it| it.block.body.attribute("context")) else { break };
            expr = &found.expr;
        }
        expr.at.source
    }
}

/// The name in `target.NAME.context`, if that is the whole expression.
fn context_of(expr: &Expr) -> Option<&Arc<str>> {
    let ExprKind::Member { source, name } = &expr.kind else { return None };
    let ExprKind::Member { source: root, name: target } = &source.kind else { return None };
    let ExprKind::Variable(root) = &root.kind else { return None };
    (&**root == "target" && &*name.value == "context").then_some(&target.value)
}

fn context_in(text: &Arc<str>, folder: &str, is_included: bool) -> Arc<str> {
    const LAYOUT: &str = "oci-layout://";
    if let Some(path) = text.strip_prefix(LAYOUT).filter(|_| is_included) {
        return format!("{LAYOUT}{}", path_in(path, folder)).into();
    }
    if text.is_empty() || text.starts_with('/') || !ContextSource::is_local_path(text) {
        return text.clone();
    }
    path_in(text, folder).into()
}

fn item_in(item: &mut Item, folder: &str) {
    let place = |path: &mut String| {
        if !path.is_empty() && path != "-" {
            *path = path_in(path, folder);
        }
    };
    match item {
        Item::Output(it) => *it = Arc::new(it.with_path(|path| path_in(path, folder))),
        Item::CacheFrom(it) => *it = Arc::new(it.with_path(|path| path_in(path, folder))),
        Item::CacheTo(it) => *it = Arc::new(it.with_path(|path| path_in(path, folder))),
        Item::Secret(it) => it.src.iter_mut().for_each(place),
        Item::Ssh(it) => it.paths.iter_mut().for_each(place),
        Item::Attest(_) | Item::Policy(_) => (),
    }
}
