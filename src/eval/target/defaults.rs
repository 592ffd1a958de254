//! What every target has, whether or not the definition says so: a cleaned context, a Dockerfile, `SOURCE_DATE_EPOCH`.
//!
//! Works on texts; nothing is looked up.

use std::sync::Arc;

use super::field::{Field, TargetFields};
use crate::{definition::attribute::Id, report::Span, spec::context};

/// Cleans the context and fills in what every target has. `folder`: with file-relative paths, that of the target's file.
/// `remote`: the URL of the definition.
pub(crate) fn fill_in(
    fields: &mut TargetFields,
    at: Span,
    folder: Option<&str>,
    remote: Option<&str>,
    source_date_epoch: Option<&str>,
) {
    if let Some(contexts) = fields.entries(Id::Contexts).filter(|_| remote.is_some()) {
        let moved =
            contexts.iter().map(|(key, it)| (key.clone(), it.as_ref().map(|it| from_remote(it, remote).into())));
        let moved = Field::Entries(Arc::new(moved.collect()));
        fields.put(Id::Contexts, moved, fields.at(Id::Contexts).unwrap_or(at));
    }
    let written = fields.text(Id::Context).filter(|it| !it.is_empty()).cloned();
    let cleaned = match written.as_deref() {
        _ if remote.is_some() && !written.as_deref().is_some_and(|it| it.starts_with("cwd://")) => {
            from_remote(written.as_deref().unwrap_or("."), remote)
        }
        None => folder.map_or_else(|| ".".to_owned(), context::clean),
        Some(text) => match context::ContextSource::parse(text) {
            context::ContextSource::Local(path) => context::clean(&path),
            _ => text.to_owned(),
        },
    };
    if written.as_deref() != Some(cleaned.as_str()) {
        fields.put(Id::Context, Field::Text(cleaned.into()), fields.at(Id::Context).unwrap_or(at));
    }
    if fields.text(Id::Dockerfile).is_none_or(|it| it.is_empty()) {
        fields.put(Id::Dockerfile, Field::Text("Dockerfile".into()), fields.at(Id::Dockerfile).unwrap_or(at));
    }
    if let Some(epoch) = source_date_epoch.filter(|it| !it.is_empty()) {
        const NAME: &str = "SOURCE_DATE_EPOCH";
        let mut args = fields.entries(Id::Args).map(|it| (**it).clone()).unwrap_or_default();
        if args.get(NAME).is_none_or(Option::is_none) {
            args.insert(NAME.into(), Some(epoch.into()));
            fields.put(Id::Args, Field::Entries(Arc::new(args)), fields.at(Id::Args).unwrap_or(at));
        }
    }
}

/// A context of a remote definition: what is relative lies in the repository.
fn from_remote(text: &str, remote: Option<&str>) -> String {
    let Some(url) = remote.filter(|_| context::ContextSource::is_local_path(text) && !text.starts_with('/')) else {
        return text.to_owned();
    };
    let path = context::clean(text);
    if path == "." || !context::is_git(url) {
        return url.to_owned();
    }
    let (base, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let inside = context::clean(&format!("{subdir}/{path}"));
    format!("{base}#{reference}:{}", inside.trim_start_matches('/'))
}
