//! Which attributes of a build or an export differ: for the reasons that are told. Whether anything differs is decided by
//! the keys of the plan, which are made of every field.

use indexmap::IndexMap;

use crate::{
    eval::target::typed::{Id, Target},
    oci::{Digest, digest::FieldHasher, key::KeyField},
    plan::{Build, Export},
    report::Span,
};

/// An attribute that differs: what to call it, and where the later definition sets it.
pub(super) struct ChangedAttribute {
    pub(super) name: String,
    pub(super) at: Span,
}

/// The attributes in which two builds differ; may be empty although their keys differ, as when a linked build does.
pub(super) fn of_builds(old: &Build, new: &Build) -> Vec<ChangedAttribute> {
    let mut found = Vec::new();
    let mut differs = |attribute: &str, name: String, is_other: bool| {
        if is_other {
            found.push(ChangedAttribute { name, at: new.at(attribute) });
        }
    };
    let mut plain = |attribute: &str, is_other: bool| differs(attribute, attribute.to_owned(), is_other);
    plain("context", old.context != new.context);
    let is_inline = |build: &Build| build.places.contains_key("dockerfile-inline");
    let dockerfile = if is_inline(new) { "dockerfile-inline" } else { "dockerfile" };
    plain(dockerfile, old.dockerfile != new.dockerfile);
    plain("target", old.stage != new.stage);
    plain("platforms", (&old.platform, old.explicit_platform) != (&new.platform, new.explicit_platform));
    plain("network", old.network != new.network);
    plain("extra-hosts", old.extra_hosts != new.extra_hosts);
    plain("shm-size", old.shm_size != new.shm_size);
    plain("ulimits", old.ulimits != new.ulimits);
    plain("no-cache", old.no_cache != new.no_cache);
    plain("no-cache-filter", old.no_cache_filter != new.no_cache_filter);
    plain("secret", old.secrets != new.secrets);
    plain("ssh", old.ssh != new.ssh);
    plain("entitlements", old.entitlements != new.entitlements);
    for (attribute, name) in [
        ("args", first_difference(&old.args, &new.args)),
        ("labels", first_difference(&old.labels, &new.labels)),
        ("contexts", first_difference(&old.contexts, &new.contexts)),
    ] {
        if let Some(name) = name {
            differs(attribute, format!("{attribute}.{name}"), true);
        }
    }
    found
}

/// The attributes in which two exports differ, without those of [`of_images`].
pub(super) fn of_exports(old: &Export, new: &Export) -> Vec<ChangedAttribute> {
    let mut found = Vec::new();
    let mut differs = |name: &str, is_other: bool| {
        if is_other {
            found.push(ChangedAttribute { name: name.to_owned(), at: new.at });
        }
    };
    differs("output", old.title() != new.title());
    found
}

/// What differs of what two targets say about their image.
pub(super) fn of_images(old: &Target, new: &Target) -> Vec<ChangedAttribute> {
    let all = [
        (Id::Tags, old.tags != new.tags),
        (Id::Annotations, old.annotations != new.annotations),
        (Id::Attest, key(&old.attestations) != key(&new.attestations)),
    ];
    let changed = all.into_iter().filter(|(_, is_other)| *is_other);
    changed.map(|(id, _)| ChangedAttribute { name: id.row().name.to_owned(), at: new.at(id) }).collect()
}

/// What tells a value from others, as keys of the plan do.
fn key(value: &impl KeyField) -> Digest {
    let mut hasher = FieldHasher::new("affected/1");
    value.add_to(&mut hasher);
    hasher.finish()
}

/// The first name of which two maps have different values, those of the later first.
fn first_difference<T: PartialEq>(old: &IndexMap<String, T>, new: &IndexMap<String, T>) -> Option<String> {
    let other = new.iter().find(|(name, value)| old.get(*name) != Some(*value)).map(|(name, _)| name);
    other.or_else(|| old.keys().find(|name| !new.contains_key(*name))).cloned()
}
