//! One private key: read from a file, named by its public half, used to sign (RFC 8709 for Ed25519, RFC 8332 for RSA, RFC
//! 5656 for elliptic curves).

use std::{fmt, sync::Arc};

use rustls::{SignatureScheme, crypto::ring::sign::any_supported_type, pki_types::PrivateKeyDer, sign::SigningKey};
use thiserror::Error;

use super::{
    der::{self, BIT_STRING, INTEGER, OBJECT_ID, SEQUENCE},
    openssh, pem, rsa,
    wire::put_string,
};

/// Object identifiers, as DER has them.
pub(super) const ED25519_ID: &[u8] = &[0x2b, 0x65, 0x70];
pub(super) const NISTP256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
pub(super) const NISTP384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// Why a file cannot be used as a key.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum KeyFault {
    #[error("it is no private key")]
    NoKey,
    #[error("it has a passphrase, which nobody can be asked for")]
    Encrypted,
    #[error("keys of its kind are not supported: {0}")]
    Unsupported(String),
    #[error("the key is damaged")]
    Broken,
}

/// A private key that signs. Shown by its public half alone.
#[derive(Clone)]
pub(crate) struct SshKey {
    signer: Signer,
    kind: KeyKind,
    /// The public half as ssh has it.
    public: Vec<u8>,
    /// What the file says of the key; often who made it where.
    comment: String,
}

#[derive(Clone)]
enum Signer {
    Library(Arc<dyn SigningKey>),
    /// RSA of an unusual size.
    Rsa(Box<::rsa::RsaPrivateKey>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    Ed25519,
    Rsa,
    Nistp256,
    Nistp384,
}

/// The flags of a request for a signature that ask for RSA with SHA-2.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

impl fmt::Debug for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl SshKey {
    /// Reads the content of a file: a key of OpenSSH, or one of PKCS #1, SEC 1 or PKCS #8 as OpenSSL writes them.
    ///
    /// # Errors
    /// When it is none, has a passphrase, or cannot be signed with.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, KeyFault> {
        let text = std::str::from_utf8(file).map_err(|_| KeyFault::NoKey)?;
        let block = pem::first_block(text)?;
        let (der, comment) = match block.label {
            "OPENSSH PRIVATE KEY" => openssh::parse(&block.bytes)?,
            "RSA PRIVATE KEY" => (PrivateKeyDer::Pkcs1(block.bytes.into()), String::new()),
            "EC PRIVATE KEY" => (PrivateKeyDer::Sec1(block.bytes.into()), String::new()),
            "PRIVATE KEY" => (PrivateKeyDer::Pkcs8(block.bytes.into()), String::new()),
            "ENCRYPTED PRIVATE KEY" => return Err(KeyFault::Encrypted),
            other => return Err(KeyFault::Unsupported(other.to_owned())),
        };
        let Ok(key) = any_supported_type(&der) else {
            let key = rsa::parse(&der).ok_or(KeyFault::Broken)?;
            let public = rsa::public_half(&key);
            return Ok(Self { signer: Signer::Rsa(Box::new(key)), kind: KeyKind::Rsa, public, comment });
        };
        let info = key.public_key().ok_or(KeyFault::Broken)?;
        let (kind, public) = public_half(info.as_ref()).ok_or(KeyFault::Broken)?;
        Ok(Self { signer: Signer::Library(key), kind, public, comment })
    }

    /// The public half as ssh has it.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    pub(super) fn comment(&self) -> &str {
        &self.comment
    }

    /// Signs `data`; `flags` are those of the request. `None` when the wanted signature is not made: RSA with SHA-1, which
    /// OpenSSH has not asked for since 2021.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let (name, scheme) = match self.kind {
            KeyKind::Ed25519 => ("ssh-ed25519", SignatureScheme::ED25519),
            KeyKind::Nistp256 => ("ecdsa-sha2-nistp256", SignatureScheme::ECDSA_NISTP256_SHA256),
            KeyKind::Nistp384 => ("ecdsa-sha2-nistp384", SignatureScheme::ECDSA_NISTP384_SHA384),
            KeyKind::Rsa if flags & RSA_SHA2_512 != 0 => ("rsa-sha2-512", SignatureScheme::RSA_PKCS1_SHA512),
            KeyKind::Rsa if flags & RSA_SHA2_256 != 0 => ("rsa-sha2-256", SignatureScheme::RSA_PKCS1_SHA256),
            KeyKind::Rsa => return None,
        };
        let signature = match &self.signer {
            Signer::Library(key) => key.choose_scheme(&[scheme])?.sign(data).ok()?,
            Signer::Rsa(key) => rsa::sign(key, data, flags & RSA_SHA2_512 != 0)?,
        };
        let signature = match self.kind {
            KeyKind::Ed25519 | KeyKind::Rsa => signature,
            KeyKind::Nistp256 | KeyKind::Nistp384 => {
                // Two numbers, which both notations write with the same bytes.
                let mut numbers = der::take(&mut signature.as_slice(), SEQUENCE)?;
                let mut both = Vec::new();
                put_string(&mut both, der::take(&mut numbers, INTEGER)?);
                put_string(&mut both, der::take(&mut numbers, INTEGER)?);
                both
            }
        };
        let mut signed = Vec::new();
        put_string(&mut signed, name.as_bytes());
        put_string(&mut signed, &signature);
        Some(signed)
    }
}

/// The public half of a key as ssh has it, from a `SubjectPublicKeyInfo` (RFC 5280, section 4.1).
fn public_half(info: &[u8]) -> Option<(KeyKind, Vec<u8>)> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const ELLIPTIC_CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let mut inside = der::take(&mut &*info, SEQUENCE)?;
    let mut algorithm = der::take(&mut inside, SEQUENCE)?;
    // The first byte says how many bits at the end do not count.
    let bits = der::take(&mut inside, BIT_STRING)?.strip_prefix(&[0])?;
    let name = der::take(&mut algorithm, OBJECT_ID)?;
    let mut public = Vec::new();
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| put_string(&mut public, part));
    let kind = if name == ED25519_ID {
        put(&[b"ssh-ed25519", bits]);
        KeyKind::Ed25519
    } else if name == RSA {
        let mut numbers = der::take(&mut &*bits, SEQUENCE)?;
        let (n, e) = (der::take(&mut numbers, INTEGER)?, der::take(&mut numbers, INTEGER)?);
        put(&[b"ssh-rsa", e, n]);
        KeyKind::Rsa
    } else if name == ELLIPTIC_CURVE {
        let curve = der::take(&mut algorithm, OBJECT_ID)?;
        if curve == NISTP256 {
            put(&[b"ecdsa-sha2-nistp256", b"nistp256", bits]);
            KeyKind::Nistp256
        } else {
            put(&[b"ecdsa-sha2-nistp384", b"nistp384", bits]);
            KeyKind::Nistp384
        }
    } else {
        return None;
    };
    Some((kind, public))
}
