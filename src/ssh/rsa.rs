//! RSA keys of sizes that the library of TLS does not sign with: below 2048 bits, above 4096.

use rsa::{
    BigUint, Pkcs1v15Sign, RsaPrivateKey,
    pkcs1::DecodeRsaPrivateKey as _,
    pkcs8::DecodePrivateKey as _,
    rand_core::{CryptoRng, Error, RngCore},
    traits::PublicKeyParts as _,
};
use rustls::pki_types::PrivateKeyDer;
use sha2::{Digest as _, Sha256, Sha512};

use super::wire::put_string;

/// The head of a hash of this kind in a signature (RFC 8017, section 9.2).
const SHA256_HEAD: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];
const SHA512_HEAD: [u8; 19] =
    [0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40];

/// The RSA key that the bytes are, if they are one.
pub(super) fn parse(der: &PrivateKeyDer<'_>) -> Option<RsaPrivateKey> {
    match der {
        PrivateKeyDer::Pkcs1(bytes) => RsaPrivateKey::from_pkcs1_der(bytes.secret_pkcs1_der()).ok(),
        PrivateKeyDer::Pkcs8(bytes) => RsaPrivateKey::from_pkcs8_der(bytes.secret_pkcs8_der()).ok(),
        _ => None,
    }
}

/// The public half as ssh has it.
pub(super) fn public_half(key: &RsaPrivateKey) -> Vec<u8> {
    let mut public = Vec::new();
    put_string(&mut public, b"ssh-rsa");
    for number in [key.e(), key.n()] {
        put_string(&mut public, &positive(number));
    }
    public
}

/// The bytes of a number, with a zero before a byte that would make it negative.
fn positive(number: &BigUint) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    if bytes.first().is_some_and(|first| *first >= 0x80) { [&[0], &*bytes].concat() } else { bytes }
}

/// Signs `data`, hashed by SHA-512 or SHA-256. `None` when the system has no random numbers.
pub(super) fn sign(key: &RsaPrivateKey, data: &[u8], is_sha512: bool) -> Option<Vec<u8>> {
    let (head, hash) = if is_sha512 {
        (SHA512_HEAD, Sha512::digest(data).to_vec())
    } else {
        (SHA256_HEAD, Sha256::digest(data).to_vec())
    };
    let scheme = Pkcs1v15Sign { hash_len: Some(hash.len()), prefix: Box::new(head) };
    // Random numbers hide from the clock what the key is.
    let mut seed = [0; 64];
    getrandom::fill(&mut seed).ok()?;
    key.sign_with_rng(&mut SeededRandom { seed, n_used: 0 }, scheme, &hash).ok()
}

/// Random numbers that cannot fail half-way: hashes of a random seed and a counter.
struct SeededRandom {
    seed: [u8; 64],
    n_used: u64,
}

impl RngCore for SeededRandom {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, to: &mut [u8]) {
        for chunk in to.chunks_mut(64) {
            let block = Sha512::new().chain_update(self.seed).chain_update(self.n_used.to_le_bytes()).finalize();
            self.n_used += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(to);
        Ok(())
    }
}

impl CryptoRng for SeededRandom {}
