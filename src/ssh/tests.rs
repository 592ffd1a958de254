//! Keys of all forms that `ssh-keygen` and `openssl` write, in `test_keys/`; they open nothing. The agent is asked as a
//! client of ssh asks it, and its signatures are verified.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rustls::{SignatureScheme, crypto::ring::default_provider};

use super::{
    KeyFault, KeyRing, SshKey,
    der::{self, INTEGER, SEQUENCE},
    wire::{WireReader, put_string},
};

/// The file of a private key, and the line of its public one.
macro_rules! key {
    ($name:literal) => {
        (include_str!(concat!("test_keys/", $name)), include_str!(concat!("test_keys/", $name, ".pub")))
    };
}

/// The answer to a request for a signature of `data` by the key `public`: its name, and the signature.
fn sign(keys: &KeyRing, public: &[u8], data: &[u8], flags: u32) -> Option<(String, Vec<u8>)> {
    let mut request = vec![13];
    put_string(&mut request, public);
    put_string(&mut request, data);
    request.extend(flags.to_be_bytes());
    let answer = keys.answer(&request);
    let mut answer = WireReader(&answer);
    if answer.byte()? != 14 {
        return None;
    }
    let mut signed = WireReader(answer.string()?);
    Some((String::from_utf8_lossy(signed.string()?).into_owned(), signed.string()?.to_vec()))
}

/// Whether a signature is one of `data`; both in the forms of ssh.
fn verifies(name: &str, public: &[u8], data: &[u8], signature: &[u8]) -> Option<bool> {
    let mut public = WireReader(public);
    let _kind = public.string()?;
    let two_numbers =
        |a: &[u8], b: &[u8]| der::value(SEQUENCE, &[&der::value(INTEGER, &[a]), &der::value(INTEGER, &[b])]);
    let (scheme, key, signature) = match name {
        "ssh-ed25519" => (SignatureScheme::ED25519, public.string()?.to_vec(), signature.to_vec()),
        "rsa-sha2-256" | "rsa-sha2-512" => {
            let (e, n) = (public.string()?, public.string()?);
            let is_512 = name.ends_with("512");
            if n.len() < 200 {
                return Some(verifies_small(n, e, data, signature, is_512));
            }
            let scheme = if is_512 { SignatureScheme::RSA_PKCS1_SHA512 } else { SignatureScheme::RSA_PKCS1_SHA256 };
            (scheme, two_numbers(n, e), signature.to_vec())
        }
        _ => {
            let _curve = public.string()?;
            let mut numbers = WireReader(signature);
            let scheme = match name {
                "ecdsa-sha2-nistp256" => SignatureScheme::ECDSA_NISTP256_SHA256,
                _ => SignatureScheme::ECDSA_NISTP384_SHA384,
            };
            (scheme, public.string()?.to_vec(), two_numbers(numbers.string()?, numbers.string()?))
        }
    };
    let algorithms = default_provider().signature_verification_algorithms;
    let (_, algorithms) = algorithms.mapping.iter().find(|(it, _)| *it == scheme)?;
    Some(algorithms.iter().any(|it| it.verify_signature(&key, data, &signature).is_ok()))
}

/// As [`verifies`], for keys of RSA that the library of TLS finds too small.
fn verifies_small(n: &[u8], e: &[u8], data: &[u8], signature: &[u8], is_sha512: bool) -> bool {
    use rsa::BigUint;
    use sha2::Digest as _;
    let key = rsa::RsaPublicKey::new(BigUint::from_bytes_be(n), BigUint::from_bytes_be(e)).expect("a public key");
    // The hash and what says of which kind it is, as `openssl asn1parse` shows them in a signature.
    let head = |bits: &str| -> Vec<u8> {
        let digits = bits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
    };
    let (head, hash) = if is_sha512 {
        (head("3051300d060960864801650304020305000440"), sha2::Sha512::digest(data).to_vec())
    } else {
        (head("3031300d060960864801650304020105000420"), sha2::Sha256::digest(data).to_vec())
    };
    let scheme = rsa::Pkcs1v15Sign { hash_len: Some(hash.len()), prefix: head.into() };
    key.verify(scheme, &hash, signature).is_ok()
}

#[test]
fn keys_of_all_forms_sign_under_their_public_names() {
    let files = [
        (key!("ed25519"), &[(0, "ssh-ed25519")][..]),
        (key!("ed25519_pkcs8"), &[(0, "ssh-ed25519")]),
        (key!("rsa"), &[(2, "rsa-sha2-256"), (4, "rsa-sha2-512")]),
        (key!("rsa_pkcs1"), &[(2, "rsa-sha2-256")]),
        (key!("rsa_pkcs8"), &[(4, "rsa-sha2-512")]),
        // Of sizes that are rare.
        (key!("rsa_1024"), &[(2, "rsa-sha2-256"), (4, "rsa-sha2-512")]),
        (key!("rsa_5120"), &[(2, "rsa-sha2-256"), (4, "rsa-sha2-512")]),
        (key!("nistp256"), &[(0, "ecdsa-sha2-nistp256")]),
        (key!("nistp384"), &[(0, "ecdsa-sha2-nistp384")]),
        (key!("ec_sec1"), &[(0, "ecdsa-sha2-nistp256")]),
        (key!("ec_pkcs8"), &[(0, "ecdsa-sha2-nistp256")]),
    ];
    let mut keys = KeyRing::default();
    for ((private, public), signatures) in files {
        keys.add(private.as_bytes(), "the file").unwrap_or_else(|fault| panic!("{fault}: {private}"));
        let public = BASE64.decode(public.split(' ').nth(1).expect("a name, and the key").trim()).expect("Base64");
        for (flags, expected) in signatures {
            let (name, signature) = sign(&keys, &public, b"to be signed", *flags).expect("a signature");
            assert_eq!(name, *expected);
            assert_eq!(verifies(&name, &public, b"to be signed", &signature), Some(true), "{name}");
            assert_eq!(verifies(&name, &public, b"another text", &signature), Some(false), "{name}");
        }
    }
    // RSA with SHA-1, a key that is not there, a request that is cut off or not known.
    let (_, rsa) = key!("rsa");
    let rsa = BASE64.decode(rsa.split(' ').nth(1).expect("the key").trim()).expect("Base64");
    assert!(sign(&keys, &rsa, b"x", 0).is_none());
    assert!(sign(&keys, b"other", b"x", 2).is_none());
    for request in [&[][..], &[13, 0, 0], &[17], &[25]] {
        assert_eq!(keys.answer(request), [5]);
    }
}

#[test]
fn the_agent_lists_its_keys_by_comment_or_file() {
    let mut keys = KeyRing::default();
    for (name, (private, _)) in [("a", key!("ed25519")), ("b", key!("ed25519_pkcs8"))] {
        keys.add(private.as_bytes(), name).expect("a key");
    }
    let answer = keys.answer(&[11]);
    let mut answer = WireReader(&answer);
    assert_eq!((answer.byte(), answer.number()), (Some(12), Some(2)));
    let mut comments = Vec::new();
    for _ in 0..2 {
        let _public = answer.string().expect("a key");
        comments.push(String::from_utf8_lossy(answer.string().expect("a comment")).into_owned());
    }
    assert_eq!(comments, ["who@where", "b"]);
    assert!(!format!("{keys:?}").contains("seed"), "only the kind of a key is shown");
}

#[test]
fn files_that_are_no_keys_are_told_apart() {
    let fault = |text: &str| SshKey::parse(text.as_bytes()).expect_err("no key");
    for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key!("rsa").1] {
        assert_eq!(fault(text), KeyFault::NoKey, "{text}");
    }
    assert_eq!(SshKey::parse(&[0xff; 10]).expect_err("no text"), KeyFault::NoKey);
    for text in [
        include_str!("test_keys/encrypted"),
        include_str!("test_keys/encrypted_pkcs1"),
        include_str!("test_keys/encrypted_pkcs8"),
    ] {
        assert_eq!(fault(text), KeyFault::Encrypted);
    }
    assert_eq!(fault(include_str!("test_keys/nistp521")), KeyFault::Unsupported("ecdsa-sha2-nistp521".to_owned()));
    let dsa = "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n";
    assert_eq!(fault(dsa), KeyFault::Unsupported("DSA PRIVATE KEY".to_owned()));
}

/// A file that is cut off or changed anywhere is a fault, or the same key; never a panic.
#[test]
fn damaged_files_are_refused() {
    for (private, _) in [key!("ed25519"), key!("rsa_pkcs1"), key!("nistp256")] {
        let lines: Vec<&str> = private.lines().collect();
        let bytes = BASE64.decode(lines[1..lines.len() - 1].concat()).expect("Base64");
        let wrapped = |bytes: &[u8]| format!("{}\n{}\n{}\n", lines[0], BASE64.encode(bytes), lines[lines.len() - 1]);
        for end in 0..bytes.len() {
            // The padding at the end of a key is not looked at.
            let read = SshKey::parse(wrapped(&bytes[..end]).as_bytes());
            assert!(read.is_err() || end + 16 > bytes.len(), "{end}");
            let mut changed = bytes.clone();
            changed[end] ^= 0xff;
            let _key_or_fault = SshKey::parse(wrapped(&changed).as_bytes());
        }
    }
}
