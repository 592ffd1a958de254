//! The two definitions that are made here: a folder that a session serves, and a Dockerfile as one file.
//!
//! A definition is a list of encoded ops, the last of which names the result
//! (<https://github.com/moby/buildkit/blob/master/solver/pb/ops.proto>).

use std::collections::BTreeMap;

use bollard_buildkit_proto::pb::{
    Definition, FileAction, FileActionMkFile, FileOp, Input, Op, OpMetadata, SourceOp, file_action, op,
};
use prost::Message as _;
use serde_json::json;

use crate::oci::Digest;

/// A folder that a session serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServedFolder<'a> {
    /// Its name in the session.
    pub(crate) name: &'a str,
    pub(crate) session: &'a str,
    /// Patterns of what is not sent.
    pub(crate) exclude: &'a [String],
    /// Only these paths, with what links there lead to; all of it when empty.
    pub(crate) follow: &'a [String],
    /// By which the daemon finds what it kept of the folder from earlier builds.
    pub(crate) shared_key: &'a str,
    /// What progress calls it.
    pub(crate) title: &'a str,
}

/// The definition of a folder, encoded.
pub(crate) fn folder(folder: &ServedFolder<'_>) -> Vec<u8> {
    let ServedFolder { name, session, exclude, follow, shared_key, title } = folder;
    let mut attrs = BTreeMap::from([
        ("local.session".to_owned(), (*session).to_owned()),
        ("local.sharedkeyhint".to_owned(), (*shared_key).to_owned()),
    ]);
    let mut caps = vec!["source.local", "source.local.sessionid", "source.local.sharedkeyhint"];
    if !exclude.is_empty() {
        attrs.insert("local.excludepatterns".to_owned(), json!(exclude).to_string());
        caps.push("source.local.excludepatterns");
    }
    if !follow.is_empty() {
        attrs.insert("local.followpaths".to_owned(), json!(follow).to_string());
        caps.push("source.local.followpaths");
    }
    let source = SourceOp { identifier: format!("local://{name}"), attrs };
    definition(Op { op: Some(op::Op::Source(source)), ..Op::default() }, &caps, title)
}

/// The definition of a tree with this Dockerfile in it, encoded.
pub(crate) fn dockerfile(name: &str, text: &[u8], title: &str) -> Vec<u8> {
    let file = FileActionMkFile {
        path: format!("/{name}"),
        mode: 0o644,
        data: text.to_vec(),
        owner: None,
        // That of the file does not count: the tree is the same wherever it is built.
        timestamp: 0,
    };
    let action =
        FileAction { input: -1, secondary_input: -1, output: 0, action: Some(file_action::Action::Mkfile(file)) };
    let op = Op { op: Some(op::Op::File(FileOp { actions: vec![action] })), ..Op::default() };
    definition(op, &["file.base"], title)
}

fn definition(op: Op, caps: &[&str], title: &str) -> Vec<u8> {
    let bytes = op.encode_to_vec();
    let digest = Digest::of(&bytes).to_string();
    let end = Op { inputs: vec![Input { digest: digest.clone(), index: 0 }], ..Op::default() };
    let about = OpMetadata {
        caps: caps.iter().map(|cap| ((*cap).to_owned(), true)).collect(),
        description: BTreeMap::from([("llb.customname".to_owned(), title.to_owned())]),
        ..OpMetadata::default()
    };
    let metadata = BTreeMap::from([(digest, about)]);
    Definition { def: vec![bytes, end.encode_to_vec()], metadata, source: None }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_op_names_the_one_before() {
        let bytes = dockerfile("Dockerfile", b"FROM scratch\n", "load build definition");
        let definition = Definition::decode(bytes.as_slice()).expect("it was encoded here");
        let [file, end] = definition.def.as_slice() else { panic!("two ops") };
        let end = Op::decode(end.as_slice()).expect("an op");
        assert_eq!(end.inputs[0].digest, Digest::of(file).to_string());
        assert!(definition.metadata.contains_key(&end.inputs[0].digest));
    }
}
