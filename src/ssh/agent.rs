//! What an ssh agent answers (<https://datatracker.ietf.org/doc/html/draft-miller-ssh-agent>): which keys there are, and
//! signatures by them. Keys are neither added nor removed by request.

use super::{
    key::{KeyFault, SshKey},
    wire::{WireReader, put_string},
};

/// Private keys that an agent signs with.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRing {
    keys: Vec<(SshKey, String)>,
}

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

impl KeyRing {
    /// The longest request that is answered, in bytes: that of OpenSSH.
    pub(crate) const MAX_REQUEST: usize = 256 << 10;

    /// Adds the key of a file; `name` is how it is listed if the file does not say.
    ///
    /// # Errors
    /// As [`SshKey::parse`].
    pub(crate) fn add(&mut self, file: &[u8], name: &str) -> Result<(), KeyFault> {
        let key = SshKey::parse(file)?;
        let comment = if key.comment().is_empty() { name.to_owned() } else { key.comment().to_owned() };
        self.keys.push((key, comment));
        Ok(())
    }

    /// The answer to a request, both without the length that goes before them. What is not known is answered by a failure.
    pub(crate) fn answer(&self, request: &[u8]) -> Vec<u8> {
        self.known_answer(request).unwrap_or_else(|| vec![FAILURE])
    }

    fn known_answer(&self, request: &[u8]) -> Option<Vec<u8>> {
        let mut request = WireReader(request);
        match request.byte()? {
            REQUEST_IDENTITIES => {
                let mut answer = vec![IDENTITIES_ANSWER];
                answer.extend(u32::try_from(self.keys.len()).ok()?.to_be_bytes());
                for (key, comment) in &self.keys {
                    put_string(&mut answer, key.public());
                    put_string(&mut answer, comment.as_bytes());
                }
                Some(answer)
            }
            SIGN_REQUEST => {
                let (public, data, flags) = (request.string()?, request.string()?, request.number()?);
                let (key, _) = self.keys.iter().find(|(key, _)| key.public() == public)?;
                let mut answer = vec![SIGN_RESPONSE];
                put_string(&mut answer, &key.sign(data, flags)?);
                Some(answer)
            }
            _ => None,
        }
    }
}
