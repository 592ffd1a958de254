//! The answer: which targets can have another result, and why.

use crate::eval::target::typed::TargetName;

/// The targets whose results can differ.
#[derive(Debug, Default)]
pub(crate) struct AffectedAnswer {
    /// In the order of the definition.
    pub(crate) targets: Vec<AffectedTarget>,
    /// How many targets were looked at.
    pub(crate) n_targets: usize,
    /// What can be another thing at any time, whatever the revision.
    pub(crate) unpinned: Vec<UnpinnedInput>,
    /// What git has no earlier state of; it is taken to be as it was.
    pub(crate) not_compared: Vec<UncomparedSource>,
}

/// A source of a copy or mount that git ignores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UncomparedSource {
    /// From the top of the work tree.
    pub(crate) path: String,
    pub(crate) targets: Vec<TargetName>,
}

/// A target whose result can differ.
#[derive(Debug)]
pub(crate) struct AffectedTarget {
    pub(crate) name: TargetName,
    /// At least one.
    pub(crate) reasons: Vec<AffectedReason>,
}

/// Why the result of a target can differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AffectedReason {
    pub(crate) kind: ReasonKind,
    /// The file that differs, from the top of the work tree.
    pub(crate) path: Option<String>,
    /// The line in it, from 1.
    pub(crate) line: Option<usize>,
    /// What differs.
    pub(crate) text: String,
    /// The step that reads the file.
    pub(crate) reader: Option<FileReader>,
}

/// A step that reads a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileReader {
    /// As written.
    pub(crate) instruction: String,
    /// Its Dockerfile, from the top of the work tree, and its line in it; `None` if equal steps of several Dockerfiles are one.
    pub(crate) place: Option<(String, usize)>,
}

/// The kind of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReasonKind {
    /// The definition did not have the target.
    NewTarget,
    /// The target, or one that it reads, is defined otherwise.
    Definition,
    Dockerfile,
    IgnoreFile,
    /// A file that a step reads.
    File,
    /// A step reads the folder `.git`, which every commit changes.
    GitFolder,
    /// Something cannot be compared.
    NotComparable,
}

impl ReasonKind {
    /// The name in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NewTarget => "new-target",
            Self::Definition => "definition",
            Self::Dockerfile => "dockerfile",
            Self::IgnoreFile => "ignore-file",
            Self::File => "file",
            Self::GitFolder => "git-folder",
            Self::NotComparable => "not-comparable",
        }
    }
}

/// Something that a build reads and that no revision pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnpinnedInput {
    pub(crate) kind: UnpinnedKind,
    /// As messages show it, without credentials.
    pub(crate) reference: String,
    pub(crate) targets: Vec<TargetName>,
}

/// What an unpinned input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UnpinnedKind {
    /// An image without a digest.
    Image,
    /// A git repository without a commit.
    Git,
    /// A download without a checksum.
    Http,
}

impl UnpinnedKind {
    /// The name in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Git => "git",
            Self::Http => "http",
        }
    }
}
