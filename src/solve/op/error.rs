//! Faults of making a new layer: of writing files, and of fetching what is put into it.

use std::io;

use crate::{
    fetch::FetchError,
    report::Diagnostic,
    solve::{content::error::ContentError, failure::file_fault},
};

/// Why a file operation (COPY, ADD, WORKDIR) cannot be done. Names paths of images and contexts only, never of the
/// store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// Of the source.
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("not a directory in the image: {path}")]
    NotDirectory { path: String },
    #[error("cannot replace a directory of the image by a file: {path}")]
    IsDirectory { path: String },
    #[error("cannot write into the image: {path}: {cause}")]
    Write { path: String, cause: io::Error },
    #[error("no user of this name in the image: {name}")]
    UnknownUser { name: String, why: Option<io::Error>, workdir: bool },
    #[error("no group of this name in the image: {name}")]
    UnknownGroup { name: String, why: Option<io::Error>, workdir: bool },
    #[error("not a user or group id, which go from 0 to 2147483647: {id}")]
    BadId { id: String, workdir: bool },
    #[error("malformed mode: {mode}")]
    BadMode { mode: String },
    #[error("cannot give a file of the image to {uid}:{gid}: {path}")]
    OwnerForbidden { path: String, uid: u32, gid: u32 },
    #[error("a device node needs real root: {path}")]
    DeviceForbidden { path: String },
    #[error("the character device 0:0 cannot be in an image, where it means a deleted file: {path}")]
    WhiteoutDevice { path: String },
    #[error("cannot unpack the archive: {path}: {why}")]
    Archive { path: String, why: String },
}

impl FileError {
    /// The help for the user: what to change so that the operation succeeds; `None` if there is nothing to say.
    pub(crate) fn hint(&self) -> Option<String> {
        let names = |file: &str, why: &Option<io::Error>, workdir: bool| {
            let asked = if workdir { "USER names the owner of new directories" } else { "--chown looks names up" };
            match why {
                Some(err) if err.kind() == io::ErrorKind::NotFound => {
                    format!("{asked}, but the image has no {file}: use numbers, such as 1000:1000")
                }
                Some(err) => format!("{asked}, but {file} of the image cannot be read: {err}"),
                None => format!("{asked} in {file} of the image being built: add it there, or use a number"),
            }
        };
        Some(match self {
            Self::Content(error) => return error.hint(),
            Self::NotDirectory { .. } => "a directory cannot be put where a file or link is; copy to another path, \
                                          or remove it in a RUN before"
                .to_owned(),
            Self::IsDirectory { .. } => {
                "end the destination with `/` to copy into the directory, or remove it in a RUN before".to_owned()
            }
            Self::UnknownUser { why, workdir, .. } => names("/etc/passwd", why, *workdir),
            Self::UnknownGroup { why, workdir, .. } => names("/etc/group", why, *workdir),
            Self::OwnerForbidden { .. } => "as an unprivileged user only ids of your range in /etc/subuid and \
                                            /etc/subgid can own files: add a range, run as root, or set \
                                            `BAKE_SINGLE_ID=1`, with which owners are only recorded"
                .to_owned(),
            Self::DeviceForbidden { .. } => "run the build as root, or leave the device out with --exclude".to_owned(),
            Self::Write { .. }
            | Self::BadId { .. }
            | Self::BadMode { .. }
            | Self::WhiteoutDevice { .. }
            | Self::Archive { .. } => return None,
        })
    }

    /// Makes a diagnostic of the error; the place of the instruction is added by the caller.
    pub(crate) fn into_diagnostic(self) -> Diagnostic {
        file_fault(&self, self.hint())
    }
}

/// Makes a diagnostic of a download or git operation that failed, with the errors beneath it.
pub(super) fn fetch_fault(error: &FetchError) -> Diagnostic {
    let diagnostic = Diagnostic::error("bake::solve::fetch", error.to_string());
    match std::error::Error::source(error) {
        Some(cause) => diagnostic.cause(cause),
        None => diagnostic,
    }
}

/// The error for a failed write at `path` of the image.
pub(super) fn write_error(path: &str, cause: io::Error) -> FileError {
    FileError::Write { path: path.to_owned(), cause }
}
