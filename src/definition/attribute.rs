//! The table of all attributes of `target`, `group`, `variable` and `function`. Decoding, merging, `--set`, `--print`,
//! the check for unknown names and the documentation are driven by it (bake file reference:
//! <https://docs.docker.com/build/bake/reference/>).
//!
//! It says nothing about how a value is evaluated.

use crate::report::suggest;

/// Names an attribute of a target; the number is its row in [`TARGET`], and the rows are in the order of `--print`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Id {
    Description,
    Annotations,
    Attest,
    Context,
    Contexts,
    Dockerfile,
    DockerfileInline,
    Args,
    Labels,
    Tags,
    CacheFrom,
    CacheTo,
    Target,
    Secret,
    Ssh,
    Platforms,
    Output,
    Pull,
    NoCache,
    Network,
    NoCacheFilter,
    ShmSize,
    Ulimits,
    Resources,
    Call,
    Entitlements,
    ExtraHosts,
    Policy,
    Concurrency,
    Inherits,
    Name,
    Matrix,
}

/// The type of an attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttributeKind {
    Text,
    Bool,
    /// A list of strings.
    Texts,
    /// A map of strings; `null_ok`: a value may be null, meaning "unset".
    Entries {
        null_ok: bool,
    },
    /// A list of objects or CSV strings.
    Items(ItemKind),
    /// The object of limits.
    Resources,
    /// Consumed while blocks are expanded.
    Matrix,
}

/// Which mini-language an item is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    Attest,
    CacheFrom,
    CacheTo,
    Output,
    Policy,
    Secret,
    Ssh,
}

/// How a later definition (second block, later file, child) combines with the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    Replace,
    /// Replaces unless the later one is empty.
    ReplaceNonEmpty,
    /// Is put after the earlier one.
    Append,
    /// Entry by entry; a null changes nothing.
    ByKey,
    /// Appended; an item with the type or id of an earlier one takes its place.
    ById,
    /// Never meets an earlier one.
    PerBlock,
}

/// How `--set` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// Cannot be set.
    No,
    /// `KEY=VALUE`, the last counts.
    One,
    /// `KEY.NAME=VALUE`.
    Named,
    /// `KEY=VALUE` replaces the list, `KEY+=VALUE` appends; values of several arguments collect.
    List,
    /// As `List`, but always appends.
    AppendList,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttributeRow {
    pub(crate) id: Id,
    pub(crate) name: &'static str,
    pub(crate) kind: AttributeKind,
    pub(crate) merge: Merge,
    pub(crate) set: Set,
    /// The KEY of `--set` if it is not `name`.
    pub(crate) set_key: &'static str,
    /// One sentence for help, schema and docs.
    #[cfg_attr(not(test), expect(dead_code, reason = "docs and schema are written by tests"))]
    pub(crate) doc: &'static str,
}

impl AttributeRow {
    /// Whether equal elements are dropped and the empty string means nothing.
    pub(crate) const fn is_deduplicated(&self) -> bool {
        !matches!(self.kind, AttributeKind::Items(ItemKind::Policy))
    }

    /// `a string`, `a list of strings` …, for messages.
    pub(crate) const fn wants(&self) -> &'static str {
        match self.kind {
            AttributeKind::Text => "a string",
            AttributeKind::Bool => "a bool",
            AttributeKind::Texts => "a list of strings",
            AttributeKind::Entries { .. } => "a map of strings",
            AttributeKind::Items(_) => "a list of objects or strings",
            AttributeKind::Resources => "an object",
            AttributeKind::Matrix => "a map of lists",
        }
    }
}

const fn row(
    id: Id,
    name: &'static str,
    kind: AttributeKind,
    merge: Merge,
    set: Set,
    doc: &'static str,
) -> AttributeRow {
    AttributeRow { id, name, kind, merge, set, set_key: name, doc }
}

const fn set_as(set_key: &'static str, row: AttributeRow) -> AttributeRow {
    AttributeRow { set_key, ..row }
}

use {AttributeKind::*, Merge::*, Set::*};

const NULLABLE: AttributeKind = Entries { null_ok: true };

/// Attributes of a target, in the order in which `--print` shows them; the last three are never shown.
pub(crate) static TARGET: [AttributeRow; 32] = [
    row(Id::Description, "description", Text, ReplaceNonEmpty, No, "What the target is for, as shown by --list."),
    row(Id::Annotations, "annotations", Texts, Append, AppendList, "OCI annotations: [TYPE[PLATFORM],…:]KEY=VALUE."),
    row(
        Id::Attest,
        "attest",
        Items(ItemKind::Attest),
        ById,
        AppendList,
        "Attestations: provenance, sbom; one per type.",
    ),
    row(Id::Context, "context", Text, Replace, One, "The main context: a directory, git or http URL; `.` by default."),
    row(
        Id::Contexts,
        "contexts",
        Entries { null_ok: false },
        ByKey,
        Named,
        "Named contexts: directory, docker-image://, target:, URL.",
    ),
    row(
        Id::Dockerfile,
        "dockerfile",
        Text,
        Replace,
        One,
        "The Dockerfile, relative to the context; `Dockerfile` by default.",
    ),
    row(
        Id::DockerfileInline,
        "dockerfile-inline",
        Text,
        Replace,
        No,
        "The text of the Dockerfile; wins over `dockerfile`.",
    ),
    row(Id::Args, "args", NULLABLE, ByKey, Named, "Build arguments; null is the Dockerfile's default."),
    row(Id::Labels, "labels", NULLABLE, ByKey, Named, "Labels of the image."),
    row(Id::Tags, "tags", Texts, Replace, List, "Names of the image."),
    row(Id::CacheFrom, "cache-from", Items(ItemKind::CacheFrom), Append, List, "Caches to read."),
    row(Id::CacheTo, "cache-to", Items(ItemKind::CacheTo), Replace, List, "Caches to write."),
    row(Id::Target, "target", Text, Replace, One, "The stage of the Dockerfile to build."),
    set_as(
        "secrets",
        row(Id::Secret, "secret", Items(ItemKind::Secret), ById, List, "Secrets of the build; one per id."),
    ),
    row(Id::Ssh, "ssh", Items(ItemKind::Ssh), ById, List, "SSH agents and keys of the build; one per id."),
    set_as("platform", row(Id::Platforms, "platforms", Texts, Replace, List, "Platforms to build for.")),
    row(Id::Output, "output", Items(ItemKind::Output), Replace, List, "Where the result goes."),
    row(Id::Pull, "pull", Bool, Replace, One, "Ask registries for newer base images, which is done in every run."),
    row(Id::NoCache, "no-cache", Bool, Replace, One, "Use no cached result."),
    row(Id::Network, "network", Text, Replace, One, "Network of RUN: default, none, host."),
    row(Id::NoCacheFilter, "no-cache-filter", Texts, Append, List, "Stages for which no cached result is used."),
    row(Id::ShmSize, "shm-size", Text, Replace, One, "Size of /dev/shm, as in 64m."),
    row(Id::Ulimits, "ulimits", Texts, Append, List, "Limits of processes: name=soft[:hard]."),
    row(Id::Resources, "resources", Resources, ByKey, Named, "Memory and CPU limits of the build's processes."),
    row(Id::Call, "call", Text, Replace, One, "What to ask of the Dockerfile: build, check, outline, targets."),
    row(
        Id::Entitlements,
        "entitlements",
        Texts,
        Append,
        AppendList,
        "What the build may do: network.host, security.insecure, device.",
    ),
    row(Id::ExtraHosts, "extra-hosts", NULLABLE, ByKey, Named, "Names and addresses for /etc/hosts of the build."),
    row(
        Id::Policy,
        "policy",
        Items(ItemKind::Policy),
        Append,
        List,
        "Policies that sources must keep. Their language (Rego) is not judged here: a build that would have to keep one is refused.",
    ),
    row(
        Id::Concurrency,
        "concurrency",
        Text,
        Replace,
        One,
        "A name: of all targets that have it, one step runs at a time.",
    ),
    row(Id::Inherits, "inherits", Texts, Append, No, "Targets whose attributes come first; later ones win."),
    row(Id::Name, "name", Text, PerBlock, No, "The name of each target of a matrix."),
    row(Id::Matrix, "matrix", Matrix, PerBlock, No, "Axes whose combinations each make a target."),
];

/// How many attributes of a target `--print` shows: the first ones.
pub(crate) const PRINTED: usize = Id::Inherits as usize;

/// `targets` of a group, which has no row among those of targets.
pub(crate) static GROUP_TARGETS: AttributeRow =
    row(Id::Inherits, "targets", Texts, PerBlock, No, "Targets and groups that belong to it.");

/// `from` and `to` of a `cache` block, which have no rows among those of targets.
static CACHE_FROM: AttributeRow =
    row(Id::CacheFrom, "from", Items(ItemKind::CacheFrom), Replace, No, "`cache-from` of every target that has none.");
static CACHE_TO: AttributeRow =
    row(Id::CacheTo, "to", Items(ItemKind::CacheTo), Replace, No, "`cache-to` of every target that has none.");

/// The row of the attribute of a `cache` block that stands for `cache-from` or for `cache-to`.
pub(crate) fn cache_row(id: Id) -> &'static AttributeRow {
    if id == Id::CacheFrom { &CACHE_FROM } else { &CACHE_TO }
}

/// Attributes of a validation.
pub(crate) const VALIDATION: [(&str, &str); 2] =
    [("condition", "Must be true."), ("error_message", "What to say when it is not.")];

/// `release` of a group, which has no row among those of targets.
pub(crate) static GROUP_RELEASE: AttributeRow =
    row(Id::Call, "release", Text, PerBlock, No, "When its results become visible.");

/// Attributes of a group.
pub(crate) const GROUP: [(&str, &str); 3] = [
    ("targets", "Targets and groups that belong to it."),
    ("description", "What the group is for, as shown by --list."),
    (
        "release",
        "When the results of its targets become visible: fail-fast (the default), defer-output (all or nothing), \
         defer-error. --execution wins over it.",
    ),
];

/// Attributes of a variable; `validation` is a block.
pub(crate) const VARIABLE: [(&str, &str); 5] = [
    ("default", "The value when nothing else gives one."),
    (
        "type",
        "What the value must be: bool, number, string, any, list(T), set(T), map(T), tuple([T…]), object({k = T}).",
    ),
    ("description", "What it is for, as shown by --list."),
    ("validation", "A condition that the value must meet."),
    ("sensitive", "Do not show the value."),
];

/// Attributes of a function.
pub(crate) const FUNCTION: [(&str, &str); 3] = [
    ("params", "Names of the parameters."),
    ("variadic_params", "Name of the parameter that takes all further arguments."),
    ("result", "What a call is worth."),
];

/// Attributes of an include.
pub(crate) const INCLUDE: [(&str, &str); 2] = [
    ("file", "The bake file, relative to the one that includes it."),
    ("vars", "Values for its variables; the environment and --var win over them."),
];

/// Attributes of a `cache` block: caches of all targets that name none.
pub(crate) const CACHE: [(&str, &str); 2] =
    [("from", "`cache-from` of every target that has none."), ("to", "`cache-to` of every target that has none.")];

/// Blocks of a bake file.
pub(crate) const BLOCKS: [&str; 7] = ["variable", "group", "target", "function", "locals", "include", "cache"];

/// The row of an attribute of a target.
pub(crate) fn target(name: &str) -> Option<&'static AttributeRow> {
    TARGET.iter().find(|row| row.name == name)
}

impl Id {
    /// Its row.
    pub(crate) fn row(self) -> &'static AttributeRow {
        &TARGET[self as usize]
    }
}

/// The nearest attribute of a target to a name that is none.
pub(crate) fn nearest_target_attribute(name: &str) -> Option<&'static str> {
    if let Some(row) = TARGET.iter().find(|row| row.set_key == name) {
        return Some(row.name);
    }
    suggest::nearest(name, TARGET.iter().map(|row| row.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_where_their_ids_say() {
        for (ix, row) in TARGET.iter().enumerate() {
            assert_eq!(row.id as usize, ix, "{}", row.name);
            assert_eq!(target(row.name).map(|it| it.id), Some(row.id));
        }
        assert_eq!(nearest_target_attribute("contxt"), Some("context"));
        assert_eq!(nearest_target_attribute("platform"), Some("platforms"));
        assert_eq!(nearest_target_attribute("secrets"), Some("secret"));
    }
}
