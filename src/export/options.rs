//! What an output makes and where it goes, from its options and its target; the destination is looked at on the disk.
//!
//! Options are parsed in `spec` and checked against the target in `eval`: nothing is checked twice here.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use super::request::{ExportedOutput, Subject};
use crate::{
    grant,
    oci::{
        Reference,
        digest::FieldHasher,
        key::{KeyField, key_fields},
    },
    report::Diagnostic,
    spec::{
        Output,
        annotation::Annotation,
        attest::{ProvenanceOptions, SbomOptions},
        local::{FileOwner, LocalAccess, LocalMode},
        output::{
            ArchiveForm, ArchiveOutput, DockerOutput, ExportEpoch, ImageOptions, OutputDest, TarOutput, TreeExtent,
            TreeOutput,
        },
    },
};

/// An output whose destination was checked, ready to be written.
#[derive(Clone, Debug)]
pub(super) enum ExportPlan {
    Nothing,
    Image(ImagePlan, ImageTo),
    Tree(TreePlan, TreeTo),
}

/// How an image is made and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct ImagePlan {
    /// The tags of the target, else the names of the output.
    pub(super) names: Vec<Reference>,
    pub(super) options: ImageOptions,
    /// Those of the target, then those of the output: later ones win.
    pub(super) annotations: Vec<Annotation>,
    /// The provenance that is written.
    pub(super) provenance: Option<ProvenanceOptions>,
    /// The SBOM that is written.
    pub(super) sbom: Option<SbomOptions>,
    /// A result of several platforms, or attestations.
    pub(super) index: bool,
}

impl ImagePlan {
    /// Whether media types are Docker's rather than OCI's.
    pub(super) const fn is_docker(&self) -> bool {
        !self.options.oci_mediatypes
    }
}

/// The destination of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImageTo {
    /// Made and kept in our own store.
    Store,
    Registry {
        by_digest: bool,
        insecure: bool,
    },
    Archive {
        docker: bool,
        dest: ArchiveDest,
    },
    Layout {
        docker: bool,
        folder: PathBuf,
    },
    Daemon {
        context: Option<String>,
    },
}

/// How a file tree is written and where it goes.
#[derive(Clone, Debug)]
pub(super) struct TreePlan {
    /// One folder per platform.
    pub(super) split: bool,
    /// The result is one of several platforms.
    pub(super) several: bool,
    pub(super) extent: TreeExtent,
    pub(super) epoch: ExportEpoch,
    pub(super) attestation_prefix: String,
    pub(super) provenance: Option<ProvenanceOptions>,
    pub(super) sbom: Option<SbomOptions>,
}

/// The destination of a file tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TreeTo {
    Folder { folder: PathBuf, delete: bool, access: LocalAccess },
    Archive { dest: ArchiveDest },
}

/// The destination of an archive: a file, or standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveDest {
    Stdout,
    File(PathBuf),
}

key_fields!(ImagePlan { names, options, annotations, provenance, sbom, index });
key_fields!(TreePlan { split, several, extent, epoch, attestation_prefix, provenance, sbom });

impl ExportPlan {
    /// The path on this machine that is written; `None` for standard output and for what is not written here.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Image(_, ImageTo::Archive { dest, .. }) | Self::Tree(_, TreeTo::Archive { dest }) => match dest {
                ArchiveDest::Stdout => None,
                ArchiveDest::File(path) => Some(path.clone()),
            },
            Self::Image(_, ImageTo::Layout { folder, .. }) | Self::Tree(_, TreeTo::Folder { folder, .. }) => {
                Some(folder.clone())
            }
            Self::Nothing | Self::Image(_, ImageTo::Store | ImageTo::Registry { .. } | ImageTo::Daemon { .. }) => None,
        }
    }
}

impl ExportPlan {
    /// The owner of what is written into a folder, if one is named.
    pub(super) fn chown(&self) -> Option<FileOwner> {
        match self {
            Self::Tree(_, TreeTo::Folder { access, .. }) => access.chown,
            _ => None,
        }
    }

    /// Replaces the owner of what is written into a folder.
    pub(super) fn set_chown(&mut self, owner: FileOwner) {
        if let Self::Tree(_, TreeTo::Folder { access, .. }) = self {
            access.chown = Some(owner);
        }
    }
}

/// Without the destination: a receipt's key has that beside it.
#[cfg(not(feature = "unkeyed"))]
impl KeyField for ExportPlan {
    fn add_to(&self, hasher: &mut FieldHasher) {
        match self {
            Self::Nothing => 0_u64.add_to(hasher),
            Self::Image(plan, to) => {
                (1_u64, plan).add_to(hasher);
                match to {
                    ImageTo::Store => 0_u64.add_to(hasher),
                    ImageTo::Registry { by_digest, insecure } => (1_u64, by_digest, insecure).add_to(hasher),
                    ImageTo::Archive { docker, dest: _ } => (2_u64, docker).add_to(hasher),
                    ImageTo::Layout { docker, folder: _ } => (3_u64, docker).add_to(hasher),
                    ImageTo::Daemon { context } => (4_u64, context.as_ref()).add_to(hasher),
                }
            }
            Self::Tree(plan, to) => {
                (2_u64, plan).add_to(hasher);
                match to {
                    TreeTo::Folder { folder: _, delete, access } => (0_u64, delete, access).add_to(hasher),
                    TreeTo::Archive { dest: _ } => 1_u64.add_to(hasher),
                }
            }
        }
    }
}

#[cfg(feature = "unkeyed")]
impl KeyField for ExportPlan {
    fn add_to(&self, _: &mut FieldHasher) {}
}

/// Looks at the destination of an output.
///
/// # Errors
/// The destination is not what it must be.
pub(super) fn plan(output: &ExportedOutput, subject: &Subject) -> Result<ExportPlan, Box<Diagnostic>> {
    let planner = Planner { output, subject };
    match &output.item.value {
        Output::Image(it) | Output::Registry(it) => {
            let registry = ImageTo::Registry { by_digest: it.push_by_digest, insecure: it.insecure };
            Ok(planner.image(&it.image, if it.push { registry } else { ImageTo::Store }))
        }
        Output::Oci(it) => Ok(planner.image(&it.image, planner.archive(it, false)?)),
        Output::Docker(DockerOutput { archive, context }) => {
            let is_daemon = archive.form == ArchiveForm::Tar && archive.dest.is_none();
            let daemon = || ImageTo::Daemon { context: context.clone() };
            let to = if is_daemon { daemon() } else { planner.archive(archive, true)? };
            Ok(planner.image(&archive.image, to))
        }
        Output::Local(it) => {
            let folder = planner.folder(it.tree.dest.as_ref())?;
            let to = TreeTo::Folder { folder, delete: it.mode == LocalMode::Delete, access: it.access.clone() };
            Ok(planner.tree(&it.tree, TreeExtent::Whole, to))
        }
        Output::Tar(TarOutput { tree, extent }) => {
            let to = TreeTo::Archive { dest: planner.file(tree.dest.as_ref())? };
            Ok(planner.tree(tree, *extent, to))
        }
        Output::Cacheonly(_) | Output::Unknown => Ok(ExportPlan::Nothing),
    }
}

struct Planner<'a> {
    output: &'a ExportedOutput,
    subject: &'a Subject,
}

impl Planner<'_> {
    fn image(&self, options: &ImageOptions, to: ImageTo) -> ExportPlan {
        let tags: Vec<Reference> = self.subject.tags.iter().map(|tag| tag.reference.clone()).collect();
        let mut names = if tags.is_empty() { options.names.clone() } else { tags };
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        // An archive for `docker load` holds one image and nothing beside it.
        let single = matches!(to, ImageTo::Archive { docker: true, .. } | ImageTo::Layout { docker: true, .. });
        // The default provenance is dropped where it cannot be; what was asked for is a fault in `eval`.
        let provenance = self.subject.attestations.provenance(options.attestation_inline);
        let provenance = provenance.filter(|_| options.oci_mediatypes && !single).cloned();
        let annotations = self.subject.annotations.iter().chain(&options.annotations).cloned().collect();
        let sbom = self.subject.attestations.sbom.clone().filter(|_| options.oci_mediatypes && !single);
        let index = !single && (self.subject.multi_platform || provenance.is_some() || sbom.is_some());
        ExportPlan::Image(ImagePlan { names, options: options.clone(), annotations, provenance, sbom, index }, to)
    }

    fn tree(&self, options: &TreeOutput, extent: TreeExtent, to: TreeTo) -> ExportPlan {
        let several = self.subject.multi_platform;
        // A tar of several platforms always has a folder for each.
        let split = options.platform_split.unwrap_or(several) || several && matches!(to, TreeTo::Archive { .. });
        let plan = TreePlan {
            split,
            several,
            extent,
            epoch: options.epoch,
            attestation_prefix: options.attestation_prefix.clone(),
            provenance: self.subject.attestations.provenance(false).cloned(),
            sbom: self.subject.attestations.sbom.clone(),
        };
        ExportPlan::Tree(plan, to)
    }

    fn archive(&self, archive: &ArchiveOutput, docker: bool) -> Result<ImageTo, Box<Diagnostic>> {
        Ok(match archive.form {
            ArchiveForm::Layout => ImageTo::Layout { docker, folder: self.folder(archive.dest.as_ref())? },
            ArchiveForm::Tar => ImageTo::Archive { docker, dest: self.file(archive.dest.as_ref())? },
        })
    }

    /// A file to write; without path it is standard output.
    fn file(&self, dest: Option<&OutputDest>) -> Result<ArchiveDest, Box<Diagnostic>> {
        let Some(OutputDest::Path(dest)) = dest else {
            if std::io::stdout().is_terminal() {
                let fault = self.fault("bake::export::terminal", "refusing to write to console", "");
                return Err(Box::new(fault.help("add dest=FILE, or redirect stdout")));
            }
            return Ok(ArchiveDest::Stdout);
        };
        let path = absolute(&self.subject.cwd, dest);
        if path.is_dir() {
            return Err(self.bad_dest(&format!("destination file is a directory: {dest}"), dest));
        }
        self.parents(&path, dest)?;
        Ok(ArchiveDest::File(path))
    }

    fn folder(&self, dest: Option<&OutputDest>) -> Result<PathBuf, Box<Diagnostic>> {
        let Some(OutputDest::Path(dest)) = dest else {
            let fault = self.fault("bake::export::no_dest", "a `dest` is needed", "");
            return Err(Box::new(fault.help("add dest=DIRECTORY")));
        };
        let path = absolute(&self.subject.cwd, dest);
        if path.exists() && !path.is_dir() {
            return Err(self.bad_dest(&format!("destination directory is a file: {dest}"), dest));
        }
        self.parents(&path, dest)?;
        Ok(path)
    }

    /// The nearest parent that exists must be a directory.
    fn parents(&self, path: &Path, dest: &str) -> Result<(), Box<Diagnostic>> {
        let nearest = path.ancestors().skip(1).find(|it| it.exists());
        let Some(blocking) = nearest.filter(|it| !it.is_dir()) else { return Ok(()) };
        Err(self.bad_dest(&format!("`{}` is a file, not a directory, in dest: {dest}", blocking.display()), dest))
    }

    fn bad_dest(&self, text: &str, dest: &str) -> Box<Diagnostic> {
        Box::new(self.fault("bake::export::dest", text, dest))
    }

    /// `part`: the text that is at fault.
    fn fault(&self, code: &'static str, text: &str, part: &str) -> Diagnostic {
        let message = format!("target `{}`, output `{}`: {text}", self.subject.target, self.output.exporter());
        Diagnostic::error(code, message).at_part(self.output.at, part, "this output")
    }
}

/// Where a path really leads, as the kernel would find it; one that leads nowhere is only made absolute, and is refused
/// when it is granted.
pub(super) fn absolute(cwd: &Path, path: &str) -> PathBuf {
    grant::resolve(Path::new(path), cwd).map_or_else(|_| cwd.join(path), |found| found.path())
}
