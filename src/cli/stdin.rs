//! Standard input of `bake build`: a Dockerfile, or an archive that is the context. An archive goes into the store as it
//! arrives and is unpacked there by the build; a Dockerfile is kept as text.

use std::io::{self, Read, Write};

use crate::{
    archive::{ArchiveCompression, detect, is_tar_header},
    engine::embedded::record_archive,
    oci::Digest,
    report::Diagnostic,
    store::{Store, StoreError},
};

/// A Dockerfile larger than this is none.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// The length of a header of tar.
const BLOCK: usize = 512;

/// What the arguments want of standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StdinUse {
    None,
    Dockerfile,
    /// The archive of a context whose Dockerfile is named.
    Context,
    /// The context if it is an archive, else a Dockerfile without a context.
    Either,
}

/// What was read.
#[derive(Clone, Debug)]
pub(crate) enum StdinInput {
    Dockerfile(String),
    /// The digest of a blob in the store.
    Archive(Digest),
}

/// Reads standard input. `store` is opened when there is an archive to keep.
///
/// # Errors
/// When it is neither an archive nor a Dockerfile as wanted, or cannot be read or kept.
pub(crate) fn read(
    wanted: StdinUse,
    mut input: impl Read,
    store: impl FnOnce() -> Result<Store, Box<Diagnostic>>,
) -> Result<Option<StdinInput>, Box<Diagnostic>> {
    if wanted == StdinUse::None {
        return Ok(None);
    }
    let mut head = Vec::with_capacity(BLOCK);
    (&mut input).take(BLOCK as u64).read_to_end(&mut head).map_err(|error| unreadable(&error))?;
    if head.is_empty() {
        let fault = Diagnostic::error("bake::cli::stdin", "standard input is empty: -");
        return Err(Box::new(fault.help("pipe a Dockerfile or an archive into it, as in `bake build - < Dockerfile`")));
    }
    let is_archive = is_archive(&head);
    match (wanted, is_archive) {
        (StdinUse::Either | StdinUse::Context, true) => {
            keep(head, input, store).map(|it| Some(StdinInput::Archive(it)))
        }
        (StdinUse::Either | StdinUse::Dockerfile, false) => dockerfile(head, input).map(Some),
        (StdinUse::Context, false) => Err(Box::new(
            Diagnostic::error(
                "bake::cli::stdin",
                "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
            )
            .help("what is on standard input is no archive; drop `-f`, or give the folder of the context"),
        )),
        (StdinUse::Dockerfile, true) => Err(Box::new(
            Diagnostic::error("bake::cli::stdin", "standard input is an archive, not a Dockerfile: -f -")
                .help("write `-` instead of `-f -` to use it as the context"),
        )),
        (StdinUse::None, _) => Ok(None),
    }
}

fn is_archive(head: &[u8]) -> bool {
    let is_tar = <&[u8; BLOCK]>::try_from(head).is_ok_and(is_tar_header);
    is_tar || detect(head) != ArchiveCompression::Uncompressed
}

fn dockerfile(mut head: Vec<u8>, input: impl Read) -> Result<StdinInput, Box<Diagnostic>> {
    input.take(MAX_DOCKERFILE + 1).read_to_end(&mut head).map_err(|error| unreadable(&error))?;
    if head.len() as u64 > MAX_DOCKERFILE {
        let message = format!("the Dockerfile on standard input has more than {} MiB: -", MAX_DOCKERFILE >> 20);
        return Err(Box::new(Diagnostic::error("bake::cli::stdin", message)));
    }
    String::from_utf8(head).map(StdinInput::Dockerfile).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let message = format!("standard input is neither an archive nor UTF-8 text (byte {at}): -");
        Box::new(Diagnostic::error("bake::cli::stdin", message))
    })
}

/// Keeps an archive in the store.
fn keep(
    head: Vec<u8>,
    mut input: impl Read,
    store: impl FnOnce() -> Result<Store, Box<Diagnostic>>,
) -> Result<Digest, Box<Diagnostic>> {
    let store = store()?;
    let of_store = |error: StoreError| {
        Box::new(Diagnostic::error("bake::store::failed", "the archive on standard input cannot be kept").cause(&error))
    };
    let mut writer = store.blob_writer().map_err(of_store)?;
    let copied = writer.write_all(&head).and_then(|()| io::copy(&mut input, &mut writer));
    copied.map_err(|error| unreadable(&error))?;
    let (digest, size) = writer.commit(None).map_err(of_store)?;
    record_archive(&store, digest, size).map_err(of_store)?;
    Ok(digest)
}

fn unreadable(error: &io::Error) -> Box<Diagnostic> {
    Box::new(Diagnostic::error("bake::cli::stdin", "standard input cannot be read: -").cause(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(wanted: StdinUse, text: &[u8]) -> Result<String, String> {
        let refuse = || Err(Box::new(Diagnostic::error("bake::store::failed", "no store")));
        match read(wanted, text, refuse) {
            Ok(Some(StdinInput::Dockerfile(text))) => Ok(text),
            Ok(other) => Err(format!("{other:?}")),
            Err(fault) => Err(fault.message),
        }
    }

    #[test]
    fn text_is_a_dockerfile_and_an_archive_needs_the_store() {
        assert_eq!(read_text(StdinUse::Either, b"FROM scratch\n"), Ok("FROM scratch\n".to_owned()));
        assert_eq!(read_text(StdinUse::Either, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]), Err("no store".to_owned()));
        assert_eq!(read_text(StdinUse::None, b"x"), Err("None".to_owned()));
        assert!(read_text(StdinUse::Either, b"").is_err_and(|message| message.contains("empty")));
        assert!(read_text(StdinUse::Context, b"FROM x").is_err_and(|message| message.contains("ambiguous")));
        assert!(read_text(StdinUse::Dockerfile, b"\x1f\x8b\x08").is_err_and(|message| message.contains("archive")));
    }
}
