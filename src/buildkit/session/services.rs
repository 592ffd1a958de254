//! What a session offers to the daemon. Nothing else of this machine can be reached through it.

use std::{collections::BTreeMap, os::fd::OwnedFd, sync::Arc};

use super::{
    auth::RegistryAccess, blobs::ContentPlace, filesend::FileReceiver, receive::FolderReceiver, secrets::SecretSource,
    server::Method, ssh::SshSource, upload::SessionUpload,
};

/// What a session offers; by default nothing.
#[derive(Default)]
pub(crate) struct SessionServices {
    /// Folders that the daemon may read.
    pub(crate) folders: Vec<SyncedFolder>,
    pub(crate) secrets: Option<Arc<dyn SecretSource>>,
    pub(crate) ssh: Option<Arc<dyn SshSource>>,
    /// Access to registries, with the user's credentials.
    pub(crate) registry: Option<RegistryAccess>,
    /// What the daemon may download, by the last part of its address.
    pub(crate) uploads: BTreeMap<String, SessionUpload>,
    /// Places of blobs, by the id that requests have for them: `export`, `oci:ID`, `local:DIR`.
    pub(crate) content: BTreeMap<String, ContentPlace>,
    /// Where results go, by the index of their exporter.
    pub(crate) receivers: BTreeMap<u32, Receiver>,
}

/// A folder that the daemon may read: what it asks for, and nothing outside of it.
#[derive(Clone)]
pub(crate) struct SyncedFolder {
    /// The name by which the daemon asks for it.
    pub(crate) name: String,
    /// The folder, open for reading; no symbolic link is followed from here.
    pub(crate) root: Arc<OwnedFd>,
    /// The folder as the user knows it, for messages.
    pub(crate) shown: String,
}

/// Where the result of an exporter goes.
#[derive(Clone)]
pub(crate) enum Receiver {
    File(Arc<FileReceiver>),
    Folder(Arc<FolderReceiver>),
}

impl SessionServices {
    /// Whether this session has something for a method.
    pub(super) fn offer(&self, method: Method) -> bool {
        match method {
            Method::HealthCheck => true,
            Method::SyncFolder => !self.folders.is_empty(),
            Method::SendResult => !self.receivers.is_empty(),
            Method::GetSecret => self.secrets.is_some(),
            Method::CheckAgent | Method::ForwardAgent => self.ssh.is_some(),
            Method::Pull => !self.uploads.is_empty(),
            Method::Credentials | Method::FetchToken | Method::TokenAuthority | Method::VerifyTokenAuthority => {
                self.registry.is_some()
            }
            Method::BlobInfo
            | Method::UpdateBlob
            | Method::ReadBlob
            | Method::WriteBlob
            | Method::ListBlobs
            | Method::BlobStatus
            | Method::BlobStatuses
            | Method::AbortBlob
            | Method::DeleteBlob => !self.content.is_empty(),
        }
    }
}
