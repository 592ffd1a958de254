//! Digests, password hashes, decryption, identifiers.

use rsa::{Pkcs1v15Encrypt, RsaPrivateKey, pkcs1::DecodeRsaPrivateKey};
use sha2::Digest;
use uuid::Uuid;

use super::{
    builtin::{Builtin, FunctionCall, FunctionError, Param, ParamType, param, row},
    encoding,
};
use crate::eval::value::types::Value;

/// Beyond this a single hash takes many seconds.
const MAX_COST: u32 = 16;

const STR: Param = param("str", ParamType::String);

pub(super) const FUNCTIONS: &[Builtin] = &[
    row(
        "bcrypt",
        &[STR],
        Some(param("cost", ParamType::Number)),
        "a salted password hash; the cost is 10 unless given",
        bcrypt_hash,
    ),
    row("md5", &[STR], None, "the MD5 digest in hexadecimal", |call| Ok(hex(&md5::Md5::digest(call.text(0))))),
    row(
        "rsadecrypt",
        &[param("ciphertext", ParamType::String), param("privatekey", ParamType::String)],
        None,
        "the plain text of base64 RSA ciphertext, with a PEM key",
        rsadecrypt,
    ),
    row("sha1", &[STR], None, "the SHA-1 digest in hexadecimal", |call| Ok(hex(&sha1::Sha1::digest(call.text(0))))),
    row("sha256", &[STR], None, "the SHA-256 digest in hexadecimal", |call| {
        Ok(hex(&sha2::Sha256::digest(call.text(0))))
    }),
    row("sha512", &[STR], None, "the SHA-512 digest in hexadecimal", |call| {
        Ok(hex(&sha2::Sha512::digest(call.text(0))))
    }),
    row("uuidv4", &[], None, "a random identifier", |call| {
        Ok(Value::string(uuid::Builder::from_random_bytes(call.world.random_bytes()).into_uuid().to_string()))
    }),
    row(
        "uuidv5",
        &[param("namespace", ParamType::String), param("name", ParamType::String)],
        None,
        "the identifier of a name in a namespace: `dns`, `url`, `oid`, `x500` or a UUID",
        uuidv5,
    ),
];

fn hex(bytes: &[u8]) -> Value {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    Value::string(out)
}

fn bcrypt_hash(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let cost = match call.args.len() {
        1 => 10,
        2 => call.integer(1)?,
        n => return Err(FunctionError::at(2, format!("`bcrypt` takes 1 or 2 arguments, got {n}"))),
    };
    let cost = match u32::try_from(cost) {
        Ok(cost @ 4..=MAX_COST) => cost,
        Ok(0..4) => 10,
        _ => return Err(FunctionError::at(1, format!("the cost must lie between 4 and {MAX_COST}, got {cost}"))),
    };
    let password = call.text(0).as_bytes();
    if password.len() > 72 {
        return Err(FunctionError::at(0, format!("at most 72 bytes can be hashed, got {}", password.len())));
    }
    let parts = bcrypt::hash_with_salt(password, cost, call.world.random_bytes())
        .map_err(|error| FunctionError::new(error.to_string()))?;
    Ok(Value::string(parts.format_for_version(bcrypt::Version::TwoA)))
}

fn rsadecrypt(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let ciphertext = encoding::decode_base64(call.text(0)).ok_or_else(|| FunctionError::at(0, "not base64"))?;
    let pem = call.text(1);
    if pem.contains("ENCRYPTED") {
        return Err(FunctionError::at(1, "the key is protected by a password: decrypt it first"));
    }
    let key = RsaPrivateKey::from_pkcs1_pem(pem.trim())
        .map_err(|_| FunctionError::at(1, "not an RSA private key in PKCS#1 PEM form"))?;
    let plain = key
        .decrypt(Pkcs1v15Encrypt, &ciphertext)
        .map_err(|_| FunctionError::at(0, "this key cannot decrypt the text"))?;
    String::from_utf8(plain)
        .map(Value::string)
        .map_err(|_| FunctionError::at(0, "the decrypted bytes are not UTF-8 text"))
}

fn uuidv5(call: &FunctionCall<'_>) -> Result<Value, FunctionError> {
    let namespace = match call.text(0) {
        "dns" => Uuid::NAMESPACE_DNS,
        "url" => Uuid::NAMESPACE_URL,
        "oid" => Uuid::NAMESPACE_OID,
        "x500" => Uuid::NAMESPACE_X500,
        other => Uuid::parse_str(other).map_err(|_| {
            FunctionError::at(0, format!("a namespace is `dns`, `url`, `oid`, `x500` or a UUID, got {other:?}"))
        })?,
    };
    Ok(Value::string(Uuid::new_v5(&namespace, call.text(1).as_bytes()).to_string()))
}
