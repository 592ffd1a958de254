//! Where the values of a target's secrets are: a file or an environment variable, read only when a step asks.

use std::path::PathBuf;

use crate::solve::op::exec::SecretSource;

/// The source of a secret as the target declares it: `env`, `src`, or by its id alone (the variable of that name if it
/// is set, else the file).
pub(crate) fn source(
    id: &str,
    src: Option<&str>,
    env: Option<&str>,
    is_set: impl Fn(&str) -> bool,
    absolute: impl Fn(&str) -> PathBuf,
) -> SecretSource {
    match (src, env) {
        (_, Some(name)) => SecretSource::Env(name.to_owned()),
        (Some(path), None) => SecretSource::File(absolute(path)),
        (None, None) if is_set(id) => SecretSource::Env(id.to_owned()),
        (None, None) => SecretSource::File(absolute(id)),
    }
}
