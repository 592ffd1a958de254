//! Private keys of the user, and an ssh agent that signs with them for steps: nothing but signatures leaves this process.
//!
//! ```text
//! file of a key ─► pem ─► key (openssh, or der as it is; rsa) ─► KeyRing: request ─► answer
//! ```
//!
//! Bytes in, bytes out: files are read and sockets are served by others. Keys with a passphrase are refused, because nobody
//! is there to be asked.

mod agent;
mod der;
mod key;
mod openssh;
mod pem;
mod rsa;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use agent::KeyRing;
pub(crate) use key::{KeyFault, SshKey};
