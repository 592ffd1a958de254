//! The methods that a session can serve, and their paths. Who answers them is decided in `server`.

/// A method that a session can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    HealthCheck,
    SyncFolder,
    SendResult,
    GetSecret,
    CheckAgent,
    ForwardAgent,
    Pull,
    Credentials,
    FetchToken,
    TokenAuthority,
    VerifyTokenAuthority,
    BlobInfo,
    UpdateBlob,
    ReadBlob,
    WriteBlob,
    ListBlobs,
    BlobStatus,
    BlobStatuses,
    AbortBlob,
    DeleteBlob,
}

/// All methods with their paths.
pub(super) const METHODS: &[(Method, &str)] = &[
    (Method::HealthCheck, "/grpc.health.v1.Health/Check"),
    (Method::SyncFolder, "/moby.filesync.v1.FileSync/DiffCopy"),
    (Method::SendResult, "/moby.filesync.v1.FileSend/DiffCopy"),
    (Method::GetSecret, "/moby.buildkit.secrets.v1.Secrets/GetSecret"),
    (Method::CheckAgent, "/moby.sshforward.v1.SSH/CheckAgent"),
    (Method::ForwardAgent, "/moby.sshforward.v1.SSH/ForwardAgent"),
    (Method::Pull, "/moby.upload.v1.Upload/Pull"),
    (Method::Credentials, "/moby.filesync.v1.Auth/Credentials"),
    (Method::FetchToken, "/moby.filesync.v1.Auth/FetchToken"),
    (Method::TokenAuthority, "/moby.filesync.v1.Auth/GetTokenAuthority"),
    (Method::VerifyTokenAuthority, "/moby.filesync.v1.Auth/VerifyTokenAuthority"),
    (Method::BlobInfo, "/containerd.services.content.v1.Content/Info"),
    (Method::UpdateBlob, "/containerd.services.content.v1.Content/Update"),
    (Method::ReadBlob, "/containerd.services.content.v1.Content/Read"),
    (Method::WriteBlob, "/containerd.services.content.v1.Content/Write"),
    (Method::ListBlobs, "/containerd.services.content.v1.Content/List"),
    (Method::BlobStatus, "/containerd.services.content.v1.Content/Status"),
    (Method::BlobStatuses, "/containerd.services.content.v1.Content/ListStatuses"),
    (Method::AbortBlob, "/containerd.services.content.v1.Content/Abort"),
    (Method::DeleteBlob, "/containerd.services.content.v1.Content/Delete"),
];
