//! The repositories that an image goes to: its names, each repository once, and what the release sets in it.
//!
//! Plain data; pushes are made in `write`, or by another engine.

use super::staged::{ReleaseItem, StagedName};
use crate::{
    oci::{Digest, Reference},
    registry::Document,
};

/// A repository, and the tags that an image gets in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRepository {
    /// Host of the registry.
    pub(crate) domain: String,
    pub(crate) path: String,
    /// None if the image is known there by its digest alone.
    pub(crate) tags: Vec<String>,
}

impl ImageRepository {
    /// The repositories of names, in their order; without tags where the image is pushed `by_digest`.
    pub(super) fn of_names(names: &[Reference], by_digest: bool) -> Vec<Self> {
        let mut repositories: Vec<Self> = Vec::new();
        for name in names {
            let tag = name.tag_or_latest().filter(|_| !by_digest).map(str::to_owned);
            match repositories.iter_mut().find(|known| known.domain == name.domain && known.path == name.path) {
                Some(known) => known.tags.extend(tag),
                None => repositories.push(Self {
                    domain: name.domain.clone(),
                    path: name.path.clone(),
                    tags: tag.into_iter().collect(),
                }),
            }
        }
        repositories
    }

    /// The name without a tag.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The image as users know it there: with its tags, or its digest.
    pub(super) fn shown(&self, root: &Digest) -> String {
        let at = if self.tags.is_empty() { format!("@{root}") } else { format!(":{}", self.tags.join(",")) };
        format!("{}{at}", self.name())
    }

    /// What a release does with the root of the image: sets each tag, or pushes the root by its digest if there is none.
    /// `text` is the root's text.
    pub(super) fn names_to_set(&self, root: &Document, text: &str, insecure: bool) -> Vec<ReleaseItem> {
        let tags = self.tags.iter().cloned().map(Some);
        let names = if self.tags.is_empty() { vec![None] } else { tags.collect() };
        let item = |tag| {
            ReleaseItem::Name(StagedName {
                domain: self.domain.clone(),
                path: self.path.clone(),
                tag,
                insecure,
                digest: root.digest,
                media_type: root.media_type.clone(),
                document: text.to_owned(),
                before: None,
            })
        };
        names.into_iter().map(item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_repository_are_one_push() {
        let names = ["h.test/a:1", "h.test/b", "h.test/a:2"].map(|it| Reference::parse(it).expect("a reference"));
        let found = ImageRepository::of_names(&names, false);
        let digest = Digest::of(b"");
        let shown: Vec<String> = found.iter().map(|it| it.shown(&digest)).collect();
        assert_eq!(shown, ["h.test/a:1,2", "h.test/b:latest"]);
        let by_digest = ImageRepository::of_names(&names, true);
        assert_eq!(by_digest[0].shown(&digest), format!("h.test/a@{digest}"));
    }
}
