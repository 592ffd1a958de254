//! RUN where there is one id for everything (`BAKE_SINGLE_ID`, docs/rootless.md): what programs must be told that would change to
//! another user.

use std::path::PathBuf;

use crate::{
    layer::view::{EntryKind, Follow, LayerView},
    sandbox,
};

/// The folder in which apt looks for settings, see apt.conf(5).
const APT_SETTINGS: &str = "/etc/apt/apt.conf.d";
/// apt downloads as the user `_apt`, and refuses to go on as root if it cannot change to it.
const APT_AS_ROOT: &str = "// There is one user in this build: downloads are root's.\nAPT::Sandbox::User \"root\";\n";

/// Files that are mounted into the root of a step made of `layers` (lowest first), if it has the programs that read them.
pub(super) fn settings(layers: &[PathBuf]) -> Option<sandbox::SandboxMount> {
    // What cannot be read is told when the root is mounted.
    let folder = LayerView::open(layers).ok()?.lookup(APT_SETTINGS, Follow::Last).ok()??;
    let kind = sandbox::SandboxMountKind::Text { text: APT_AS_ROOT.to_owned(), mode: 0o644 };
    let target = format!("{APT_SETTINGS}/zz-bake-single-id");
    (folder.kind == EntryKind::Dir).then_some(sandbox::SandboxMount { target, kind })
}

/// The help for a step that failed.
pub(super) fn help() -> String {
    "steps have one user id here (`BAKE_SINGLE_ID`): a program that changes to another user fails; if it is that, install the \
     package `uidmap` (shadow-utils) and give the user a range of ids, a line such as `USER:100000:65536` in /etc/subuid and in \
     /etc/subgid"
        .to_owned()
}
