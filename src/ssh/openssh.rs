//! Keys as `ssh-keygen` writes them (`openssh-key-v1`,
//! <https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key>), as the forms that the signing library reads:
//! PKCS #1 for RSA (RFC 8017), SEC 1 for elliptic curves (RFC 5915), PKCS #8 for Ed25519 (RFC 8410).

use num_bigint::BigUint;
use num_traits::One as _;
use rustls::pki_types::PrivateKeyDer;

use super::{
    der::{self, BIT_STRING, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE},
    key::{ED25519_ID, KeyFault, NISTP256, NISTP384},
    wire::WireReader,
};

const MAGIC: &[u8] = b"openssh-key-v1\0";

/// The key of a file, and its comment.
///
/// # Errors
/// When it has a passphrase, is of a kind that is not signed with, or is cut off.
pub(super) fn parse(bytes: &[u8]) -> Result<(PrivateKeyDer<'static>, String), KeyFault> {
    let mut outer = WireReader(bytes.strip_prefix(MAGIC).ok_or(KeyFault::Broken)?);
    let cipher = outer.string().ok_or(KeyFault::Broken)?;
    if cipher != b"none" {
        return Err(KeyFault::Encrypted);
    }
    let mut private = || {
        let _kdf = (outer.string()?, outer.string()?);
        // More than one key in a file is not written by any program.
        let _public = (outer.number()? == 1).then(|| outer.string())?;
        let mut private = WireReader(outer.string()?);
        (private.number()? == private.number()?).then_some(private)
    };
    let mut private = private().ok_or(KeyFault::Broken)?;
    let kind = private.string().ok_or(KeyFault::Broken)?;
    let key = match kind {
        b"ssh-ed25519" => ed25519(&mut private),
        b"ssh-rsa" => rsa(&mut private),
        b"ecdsa-sha2-nistp256" => ecdsa(&mut private, NISTP256, 32),
        b"ecdsa-sha2-nistp384" => ecdsa(&mut private, NISTP384, 48),
        other => return Err(KeyFault::Unsupported(String::from_utf8_lossy(other).into_owned())),
    };
    let key = key.ok_or(KeyFault::Broken)?;
    let comment = private.string().ok_or(KeyFault::Broken)?;
    Ok((key, String::from_utf8_lossy(comment).into_owned()))
}

fn ed25519(private: &mut WireReader<'_>) -> Option<PrivateKeyDer<'static>> {
    let _public = private.string()?;
    let seed = private.string()?.get(..32)?;
    let algorithm = der::value(SEQUENCE, &[&der::value(OBJECT_ID, &[ED25519_ID])]);
    let key = der::value(OCTET_STRING, &[&der::value(OCTET_STRING, &[seed])]);
    let pkcs8 = der::value(SEQUENCE, &[&der::value(INTEGER, &[&[0]]), &algorithm, &key]);
    Some(PrivateKeyDer::Pkcs8(pkcs8.into()))
}

fn rsa(private: &mut WireReader<'_>) -> Option<PrivateKeyDer<'static>> {
    let mut next = || private.string();
    let (n, e, d, inverse, p, q) = (next()?, next()?, next()?, next()?, next()?, next()?);
    let exponent = |prime: &[u8]| {
        let prime = BigUint::from_bytes_be(prime);
        let exponent = (prime > BigUint::one()).then(|| BigUint::from_bytes_be(d) % (prime - BigUint::one()))?;
        // A leading zero keeps it positive.
        Some(if exponent.bits() % 8 == 0 { [&[0], &*exponent.to_bytes_be()].concat() } else { exponent.to_bytes_be() })
    };
    let (of_p, of_q) = (exponent(p)?, exponent(q)?);
    let parts = [&[0], n, e, d, p, q, &of_p, &of_q, inverse].map(|part| der::value(INTEGER, &[part]));
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Some(PrivateKeyDer::Pkcs1(der::value(SEQUENCE, &parts).into()))
}

/// `curve` is its object identifier, `size` the bytes of its numbers.
fn ecdsa(private: &mut WireReader<'_>, curve: &[u8], size: usize) -> Option<PrivateKeyDer<'static>> {
    let _name = private.string()?;
    let (point, secret) = (private.string()?, private.string()?);
    let secret = secret.strip_prefix(&[0]).filter(|rest| rest.len() >= size).unwrap_or(secret);
    let padding = vec![0; size.checked_sub(secret.len())?];
    const PARAMETERS: u8 = 0xa0;
    const PUBLIC: u8 = 0xa1;
    let parts = [
        der::value(INTEGER, &[&[1]]),
        der::value(OCTET_STRING, &[&padding, secret]),
        der::value(PARAMETERS, &[&der::value(OBJECT_ID, &[curve])]),
        der::value(PUBLIC, &[&der::value(BIT_STRING, &[&[0], point])]),
    ];
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Some(PrivateKeyDer::Sec1(der::value(SEQUENCE, &parts).into()))
}
