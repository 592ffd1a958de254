//! TLS to a daemon: whom to trust, who we are. By rustls with ring; what went wrong is told by `connect_fault`.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::{io::AsyncReadExt as _, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    address::TlsFiles,
    connect_fault::ConnectCause,
    stream::{BegunStream, BoxedStream},
};
use crate::grant::read_file;

/// Longest file with certificates or a key that is read, in bytes.
const LONGEST_PEM: u64 = 1 << 20;

/// Time for a daemon to begin.
const FIRST: Duration = Duration::from_secs(1);

/// What is spoken inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http2,
    /// The interface of Docker.
    Http1,
}

/// Makes a stream an encrypted one.
///
/// # Errors
/// Files that cannot be used, and certificates that do not fit.
pub(super) async fn encrypt(
    stream: BoxedStream,
    files: &TlsFiles,
    host: &str,
    spoken: Spoken,
) -> Result<BoxedStream, ConnectCause> {
    let name = files.servername.as_deref().unwrap_or(host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| ConnectCause::new(format!("certificates cannot be for such a name: {name}")))?;
    let mut config = config(files)?;
    config.alpn_protocols = match spoken {
        Spoken::Http2 => vec![b"h2".to_vec()],
        Spoken::Http1 => Vec::new(),
    };
    let failed = |error| ConnectCause::of(&error);
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(failed)?;
    if spoken == Spoken::Http1 {
        return Ok(Box::new(stream));
    }
    // What the daemon thinks of our certificate comes after the handshake. It is read before anything is sent: a connection
    // that is closed with something unread is reset, and the reason is lost. Servers of HTTP/2 send their settings first.
    let mut begun = vec![0; 4096];
    match timeout(FIRST, stream.read(&mut begun)).await {
        Ok(Ok(0)) => Err(ConnectCause::new("the connection was closed")),
        Ok(Ok(count)) => {
            begun.truncate(count);
            Ok(Box::new(BegunStream::new(stream, begun)))
        }
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Ok(Box::new(stream)),
    }
}

fn config(files: &TlsFiles) -> Result<ClientConfig, ConnectCause> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectCause::new(error.to_string()))?;
    let builder = if files.is_unverified {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAll(provider)))
    } else {
        builder.with_root_certificates(roots(files)?)
    };
    let (Some(cert), Some(key)) = (&files.cert, &files.key) else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(cert)?;
    let own = PrivateKeyDer::from_pem_slice(&pem(key)?).map_err(|error| unusable(key, &error.to_string()))?;
    builder.with_client_auth_cert(chain, own).map_err(|error| unusable(key, &error.to_string()))
}

fn roots(files: &TlsFiles) -> Result<RootCertStore, ConnectCause> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &files.cacert else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, &error.to_string()))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectCause> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem(path)?).collect();
    match read {
        Ok(all) if all.is_empty() => Err(unusable(path, "there is no certificate in it")),
        Ok(all) => Ok(all),
        Err(error) => Err(unusable(path, &error.to_string())),
    }
}

fn pem(path: &Path) -> Result<Vec<u8>, ConnectCause> {
    read_file(path, LONGEST_PEM).map_err(|fault| ConnectCause::new(format!("`{}`: {fault}", path.display())))
}

fn unusable(path: &Path, why: &str) -> ConnectCause {
    let cause = ConnectCause::new(format!("`{}` is not usable: {why}", path.display()));
    cause.help("certificates and keys are in PEM: -----BEGIN CERTIFICATE-----")
}

/// Takes every certificate, where a Docker context says so.
#[derive(Debug)]
struct TrustAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
