//! The ssh agent that a step gets: the user's, the one behind a socket, or this process with the keys of files.

use std::{path::PathBuf, sync::Arc};

use crate::{
    grant::{GrantedRead, ReadFault, SpecialFile},
    report::Diagnostic,
    ssh::KeyRing,
};

pub(crate) use crate::sandbox::StepAgent;

/// A larger file is no key.
const LONGEST_KEY: u64 = 100 << 10;

/// The agent `id` of these files; without any it is the one of the environment, which listens on `socket`.
///
/// # Errors
/// When a file is neither a key that can be used nor, alone, the socket of an agent.
pub(crate) fn of(id: &str, paths: &[GrantedRead], socket: Option<&str>) -> Result<Option<StepAgent>, Diagnostic> {
    if paths.is_empty() {
        return Ok(socket.map(|socket| StepAgent::Socket(PathBuf::from(socket))));
    }
    let mut keys = KeyRing::default();
    for path in paths {
        let name = path.path().display().to_string();
        let failed = |error: &(dyn std::error::Error + 'static)| {
            let message = format!("the key of ssh agent `{id}` cannot be used: {name}");
            Diagnostic::error("bake::solve::ssh_key", message).cause(error)
        };
        match path.read(LONGEST_KEY) {
            Err(ReadFault::NoFile(SpecialFile::Socket)) if paths.len() == 1 => {
                return Ok(Some(StepAgent::Socket(path.path().to_owned())));
            }
            Err(fault) => return Err(failed(&fault)),
            Ok(bytes) => keys.add(&bytes, &name).map_err(|fault| failed(&fault))?,
        }
    }
    Ok(Some(StepAgent::Keys(Arc::new(keys))))
}
