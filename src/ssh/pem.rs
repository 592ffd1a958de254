//! The textual form of keys (RFC 7468, and RFC 1421 for its headers): which kind of key it is, and its bytes.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::key::KeyFault;

/// A block between `-----BEGIN LABEL-----` and `-----END LABEL-----`.
pub(super) struct PemBlock<'t> {
    pub(super) label: &'t str,
    pub(super) bytes: Vec<u8>,
}

/// The first block of a text.
///
/// # Errors
/// When there is none, it is encrypted, or it is not in Base64.
pub(super) fn first_block(text: &str) -> Result<PemBlock<'_>, KeyFault> {
    let mut lines = text.lines().map(str::trim);
    let label =
        lines.find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")).ok_or(KeyFault::NoKey)?;
    if !label.ends_with("PRIVATE KEY") {
        return Err(KeyFault::NoKey);
    }
    let mut digits = String::new();
    for line in lines {
        if line.starts_with("-----END ") {
            let bytes = BASE64.decode(digits).map_err(|_| KeyFault::Broken)?;
            return Ok(PemBlock { label, bytes });
        }
        // Headers stand before the data: `Proc-Type: 4,ENCRYPTED`.
        match line.split_once(':') {
            Some((name, value)) if name == "Proc-Type" && value.contains("ENCRYPTED") => {
                return Err(KeyFault::Encrypted);
            }
            Some(_) => (),
            None => digits.push_str(line),
        }
    }
    Err(KeyFault::Broken)
}
