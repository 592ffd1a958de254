//! Results that the daemon sends: `moby.filesync.v1.FileSend/DiffCopy`.
//!
//! A file arrives as pieces. What the exporter says about it comes before the first of them, in headers, so that a result
//! which is here already does not travel: the daemon takes the answer `AlreadyExists` for success.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Seek as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use tonic::{Status, metadata::KeyAndValueRef};

use super::{
    call::{Answers, BytesMessage, Call},
    receive::{self, FolderReceiver},
    traffic::Traffic,
};

/// What headers of the exporter begin with.
const EXPORTER_METADATA: &str = "exporter-md-";

/// Whether a result is here, by what the exporter says about it: `containerimage.digest` and the like.
pub(crate) type IsKnown = Box<dyn Fn(&BTreeMap<String, String>) -> bool + Send + Sync>;

/// Where the result of an exporter goes.
#[derive(Clone)]
pub(crate) enum Receiver {
    File(Arc<FileReceiver>),
    Folder(Arc<FolderReceiver>),
}

/// A file that gets the result of an exporter.
pub(crate) struct FileReceiver {
    file: File,
    is_known: IsKnown,
    state: Mutex<ReceivedFile>,
}

/// What became of a file that a daemon was to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceivedFile {
    /// The daemon has not begun, or it has not ended.
    Unfinished,
    /// The daemon was told that its result is here.
    Known,
    /// The file is whole, as far as the daemon said; its length in bytes.
    Whole(u64),
}

impl FileReceiver {
    /// A receiver that writes into `file`, from its start, unless the result is known.
    pub(crate) fn new(file: File, is_known: IsKnown) -> Arc<Self> {
        Arc::new(Self { file, is_known, state: Mutex::new(ReceivedFile::Unfinished) })
    }

    /// What has become of the file so far.
    pub(crate) fn received(&self) -> ReceivedFile {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: ReceivedFile) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// Receives the result of one exporter.
///
/// # Errors
/// It is known (`AlreadyExists`), not expected, or cannot be written.
pub(super) async fn receive(
    receivers: &BTreeMap<u32, Receiver>,
    traffic: &Arc<Traffic>,
    call: Call,
) -> Result<Answers, Status> {
    let index = match call.header("buildkit-attachable-exporter-id") {
        Some(text) => text.parse().map_err(|_| Status::invalid_argument(format!("not an exporter: {text:?}")))?,
        None => 0,
    };
    let unexpected = || Status::not_found(format!("no result of exporter {index} is expected"));
    match receivers.get(&index).ok_or_else(unexpected)? {
        Receiver::File(receiver) => receive_file(receiver.clone(), traffic, call).await,
        Receiver::Folder(receiver) => Ok(receive::receive(receiver.clone(), traffic.clone(), call)),
    }
}

async fn receive_file(receiver: Arc<FileReceiver>, traffic: &Traffic, mut call: Call) -> Result<Answers, Status> {
    if (receiver.is_known)(&exporter_metadata(&call)) {
        receiver.set(ReceivedFile::Known);
        return Err(Status::already_exists("the result is here"));
    }
    receiver.set(ReceivedFile::Unfinished);
    let fault = |error: io::Error| Status::data_loss(format!("cannot write the result: {error}"));
    let mut file = receiver.file.try_clone().map_err(fault)?;
    (file.rewind().and_then(|()| file.set_len(0))).map_err(fault)?;
    let mut size = 0;
    while let Some(BytesMessage { data }) = call.next().await? {
        size += data.len() as u64;
        traffic.add_result_bytes(data.len());
        let written = tokio::task::spawn_blocking(move || file.write_all(&data).map(|()| file)).await;
        file = written.map_err(|error| Status::internal(error.to_string()))?.map_err(fault)?;
    }
    receiver.set(ReceivedFile::Whole(size));
    Ok(Box::pin(futures_util::stream::empty()))
}

fn exporter_metadata(call: &Call) -> BTreeMap<String, String> {
    let mut found = BTreeMap::<String, String>::new();
    for header in call.metadata.iter() {
        let KeyAndValueRef::Ascii(name, value) = header else { continue };
        let Some(name) = name.as_str().strip_prefix(EXPORTER_METADATA) else { continue };
        let value = String::from_utf8_lossy(value.as_encoded_bytes());
        found
            .entry(name.to_owned())
            .and_modify(|known| {
                known.push(',');
                known.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    found
}
