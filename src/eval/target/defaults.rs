//! What every target has, whether or not the definition says so: a cleaned context, a Dockerfile, `SOURCE_DATE_EPOCH`.
//!
//! Works on texts; nothing is looked up.

use std::sync::Arc;

use super::field::{Field, Item, TargetFields};
use crate::{
    definition::attribute::Id,
    report::Span,
    spec::{OptionItem, context},
};

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
        None => folder.map_or_else(|| ".".to_owned(), crate::spec::path::clean),
        Some(text) => match context::ContextSource::parse(text) {
            context::ContextSource::Local(path) => crate::spec::path::clean(&path),
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

/// Gives a target without an output that of loading it.
pub(crate) fn load_by_default(fields: &mut TargetFields, at: Span) {
    if fields.items(Id::Output).is_empty() {
        let output = Item::Output(Arc::new(OptionItem::of_type("docker")));
        fields.put(Id::Output, Field::Items(Arc::new(vec![output])), at);
    }
}

/// A context of a remote definition: what is relative lies in the repository.
fn from_remote(text: &str, remote: Option<&str>) -> String {
    let Some(url) = remote.filter(|_| context::ContextSource::is_local_path(text) && !text.starts_with('/')) else {
        return text.to_owned();
    };
    let path = crate::spec::path::clean(text);
    if path == "." || !context::is_git(url) {
        return url.to_owned();
    }
    let (base, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let inside =
        |subdir: &str| crate::spec::path::clean(&format!("{subdir}/{path}")).trim_start_matches('/').to_owned();
    // Where the query says the folder, the query says the folder in it: the two must not contradict each other.
    if let Some((address, query)) = base.split_once('?')
        && let Some(folder) = query.split('&').find_map(subdir_of_query)
    {
        let others = query.split('&').filter(|pair| subdir_of_query(pair).is_none()).map(str::to_owned);
        let subdir = Some(inside(&folder)).filter(|folder| folder != ".");
        let pairs: Vec<String> = others.chain(subdir.map(|folder| format!("subdir={}", query_text(&folder)))).collect();
        let fragment = if reference.is_empty() { String::new() } else { format!("#{reference}") };
        let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
        return format!("{address}{query}{fragment}");
    }
    format!("{base}#{reference}:{}", inside(subdir))
}

/// The value of `subdir=…` in the query of a git URL.
fn subdir_of_query(pair: &str) -> Option<String> {
    let (key, value) = url::form_urlencoded::parse(pair.as_bytes()).next()?;
    (key == "subdir").then(|| value.into_owned())
}

/// A path as the value of a query; its slashes stay readable.
fn query_text(path: &str) -> String {
    let parts = path.split('/').map(|part| url::form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>());
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_of_a_remote_definition_lie_in_its_repository() {
        let at = |url: &str, path: &str| from_remote(path, Some(url));
        let query = "https://h/a.git?tag=v1&subdir=src";
        for (url, path, expected) in [
            ("https://h/a.git#v1:src", "./nested", "https://h/a.git#v1:src/nested"),
            ("https://h/a.git?tag=v1", "nested", "https://h/a.git?tag=v1#:nested"),
            (query, "./nested", "https://h/a.git?tag=v1&subdir=src/nested"),
            (query, ".", query),
            (query, "..", "https://h/a.git?tag=v1"),
            (query, "../b c&d", "https://h/a.git?tag=v1&subdir=b+c%26d"),
            ("https://h/a.git?subdir=s%2Ft&ref=x", "n", "https://h/a.git?ref=x&subdir=s/t/n"),
            ("git://h/a?subdir=s#v1:s", "n", "git://h/a?subdir=s/n#v1"),
            ("git://h/a?subdir=s", "..", "git://h/a"),
            (query, "https://h/other.git", "https://h/other.git"),
            (query, "/abs", "/abs"),
        ] {
            assert_eq!(at(url, path), expected, "{url} {path}");
        }
    }
}
