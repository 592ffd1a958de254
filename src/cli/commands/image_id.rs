//! The ID of the image that `bake build` made, for `--quiet` and `--iidfile`: the digest of its config, or that of the
//! manifest list if it has several platforms.

use std::{io, path::PathBuf};

use serde_json::{Map, Value};

use crate::{
    cli::{answer_file, exit::write},
    report::Diagnostic,
};

/// Where the ID of the image is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageIdWanted {
    pub(crate) file: Option<PathBuf>,
    pub(crate) stdout: bool,
}

impl ImageIdWanted {
    /// Removes the file of an earlier build, so that none is left if this one fails.
    ///
    /// # Errors
    /// When there is a file that cannot be removed.
    pub(crate) fn clear(&self) -> Result<(), Box<Diagnostic>> {
        let Some(path) = &self.file else { return Ok(()) };
        answer_file::clear(path).map_err(|error| self.fault(&error))
    }

    /// Writes the ID that the exporters answered to where it is wanted; the exit code of the command. Without an image there
    /// is no ID, and what is written is empty, as by the peer.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, metadata: &Map<String, Value>) -> Result<u8, Box<Diagnostic>> {
        let digest = |key: &str| metadata.get(key).and_then(Value::as_str);
        let id = digest("containerimage.config.digest").or_else(|| digest("containerimage.digest")).unwrap_or_default();
        if let Some(path) = &self.file {
            answer_file::write(path, id).map_err(|error| self.fault(&error))?;
        }
        Ok(if self.stdout && !id.is_empty() { write(&format!("{id}\n")) } else { crate::cli::exit::OK })
    }

    fn fault(&self, error: &io::Error) -> Box<Diagnostic> {
        let path = self.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let message = format!("the file of `--iidfile` cannot be written: {path}");
        Box::new(Diagnostic::error("bake::cli::iidfile", message).cause(error))
    }
}
