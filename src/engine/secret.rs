//! Sources of a target's secrets and agents: files, or environment variables. A value is read only when a step needs it.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    fetch::GitSecrets,
    grant::GrantedRead,
    plan::{Plan, PlanNode},
    solve::world::SecretSource,
    spec::SecretOrigin,
};

/// The source of a secret as the target declares it: `env`, `src`, or by its id alone (the variable of that name if it
/// is set, else the file).
pub(crate) fn source(
    id: &str,
    src: Option<&str>,
    env: Option<&str>,
    is_set: impl Fn(&str) -> bool,
    path_of: impl Fn(&str) -> GrantedRead,
) -> SecretSource {
    match (src, env) {
        (_, Some(name)) => SecretSource::Env(name.to_owned()),
        (Some(path), None) => SecretSource::File(path_of(path)),
        (None, None) if is_set(id) => SecretSource::Env(id.to_owned()),
        (None, None) => SecretSource::File(path_of(id)),
    }
}

/// What tells an agent with these files from others within a run.
pub(crate) fn agent_origin(paths: &[GrantedRead]) -> SecretOrigin {
    let paths: Vec<String> = paths.iter().map(|path| path.path().display().to_string()).collect();
    if paths.is_empty() {
        return SecretOrigin::Env("SSH_AUTH_SOCK".to_owned());
    }
    SecretOrigin::File(PathBuf::from(paths.join(",")))
}

/// A longer token, in bytes, is not read.
const LONGEST_TOKEN: u64 = 64 << 10;

/// The secrets `GIT_AUTH_TOKEN[.HOST]` and `GIT_AUTH_HEADER[.HOST]` of all builds, for fetching their git sources. A secret
/// that cannot be read is left out.
pub(crate) fn for_git(
    plan: &Plan,
    env: &BTreeMap<String, String>,
    path_of: impl Fn(&str) -> GrantedRead,
) -> GitSecrets {
    let mut secrets = GitSecrets::default();
    let builds = plan.graph.node_weights().filter_map(|node| match node {
        PlanNode::Build(build) => Some(build),
        PlanNode::Export(_) => None,
    });
    for secret in builds.flat_map(|build| &build.secrets) {
        let (list, host) = if let Some(rest) = secret.id.strip_prefix("GIT_AUTH_TOKEN") {
            (&mut secrets.tokens, rest)
        } else if let Some(rest) = secret.id.strip_prefix("GIT_AUTH_HEADER") {
            (&mut secrets.headers, rest)
        } else {
            continue;
        };
        let Some(host) = (if host.is_empty() { Some("") } else { host.strip_prefix('.') }) else { continue };
        let found =
            source(&secret.id, secret.src.as_deref(), secret.env.as_deref(), |it| env.contains_key(it), &path_of);
        let value = match found {
            SecretSource::Env(name) => env.get(&name).cloned(),
            SecretSource::File(path) => path.read(LONGEST_TOKEN).ok().and_then(|bytes| String::from_utf8(bytes).ok()),
        };
        let known = list.iter().any(|(it, _)| it == host);
        list.extend(value.filter(|it| !known && !it.trim().is_empty()).map(|it| (host.to_owned(), it)));
    }
    secrets
}
