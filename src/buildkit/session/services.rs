//! What a session offers to the daemon. Nothing else of this machine can be reached through it.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    auth::RegistryAccess, blobs::ContentPlace, filesend::Receiver, filesync::SyncedFolder, method::Method,
    secrets::SecretSource, ssh::SshSource, upload::SessionUpload,
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
