//! What a release makes visible: each item is one act, written down so that another process can do it as well.
//!
//! Plain data; the journal of a release is a list of these. How items are made is in `write`, how they become visible in
//! `release`.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{oci::Digest, spec::local::FileOwner};

/// A path whose bytes survive JSON, whatever they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ExactPath(pub(crate) PathBuf);

impl Serialize for ExactPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(self.0.as_os_str().as_bytes()))
    }
}

impl<'de> Deserialize<'de> for ExactPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        Ok(Self(OsString::from_vec(bytes).into()))
    }
}

impl AsRef<Path> for ExactPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// Something that becomes visible by one act.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ReleaseItem {
    File(StagedFile),
    Folder(StagedFolder),
    Load(StagedLoad),
    Name(StagedName),
}

/// A file that lies whole beside its destination and gets its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StagedFile {
    pub(crate) dest: ExactPath,
    /// Its name until then, in the same directory.
    pub(crate) staged: ExactPath,
    /// By which it is recognised.
    pub(crate) inode: Inode,
}

/// Device and number of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inode {
    pub(crate) device: u64,
    pub(crate) number: u64,
}

impl Inode {
    #[expect(clippy::unnecessary_cast, reason = "the fields differ between architectures")]
    pub(crate) const fn of(stat: &rustix::fs::Stat) -> Self {
        Self { device: stat.st_dev as u64, number: stat.st_ino as u64 }
    }
}

/// A tree that lies whole beside or in its destination. It becomes the destination by one rename if there is none, else
/// its files get their names there one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StagedFolder {
    pub(crate) dest: ExactPath,
    /// Where the tree is: absolute.
    pub(crate) staged: ExactPath,
    pub(crate) inode: Inode,
    /// Attributes that directories get at the end, relative to the destination.
    pub(crate) folders: Vec<StagedDirectory>,
    /// What `mode=delete` takes away, relative to the destination.
    pub(crate) remove: Vec<ExactPath>,
    /// It is an OCI layout: its `index.json` is merged with the one that is there.
    pub(crate) is_layout: bool,
    /// Blobs of images that are replaced in the layout go, unless another image has them.
    #[serde(default)]
    pub(crate) sweeps: bool,
}

/// Attributes of one directory of a staged tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StagedDirectory {
    pub(crate) path: ExactPath,
    pub(crate) mode: u32,
    /// `None` leaves it to whoever made it.
    pub(crate) owner: Option<FileOwner>,
    /// Seconds and nanoseconds of the modification time; `None` leaves it as it is.
    pub(crate) mtime: Option<(i64, i64)>,
    pub(crate) xattrs: Vec<(ExactPath, Vec<u8>)>,
}

/// An image that a container engine of the machine loads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StagedLoad {
    /// Name of the archive in the journal.
    pub(crate) archive: String,
    /// `context` of the output.
    pub(crate) context: Option<String>,
}

/// A manifest or index of which all parts are in its repository, and the name that it gets there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StagedName {
    /// Host of the registry.
    pub(crate) domain: String,
    /// Repository.
    pub(crate) path: String,
    /// `None`: it is pushed by its digest alone.
    pub(crate) tag: Option<String>,
    /// `registry.insecure` of the output.
    pub(crate) insecure: bool,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    /// The document; text, as manifests are JSON.
    pub(crate) document: String,
    /// What the tag stood for before the release, as far as the registry said.
    pub(crate) before: Option<Digest>,
}

impl StagedName {
    /// `registry/repository:tag`.
    pub(crate) fn shown(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}/{}:{tag}", self.domain, self.path),
            None => format!("{}/{}@{}", self.domain, self.path, self.digest),
        }
    }
}

impl ReleaseItem {
    /// What the user knows it by: a path, an image name, a container engine.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::File(StagedFile { dest, .. }) | Self::Folder(StagedFolder { dest, .. }) => {
                dest.0.display().to_string()
            }
            Self::Load(StagedLoad { context: Some(context), .. }) => format!("container engine of context {context}"),
            Self::Load(_) => "container engine".to_owned(),
            Self::Name(name) => name.shown(),
        }
    }

    /// The order in which items become visible, the lowest first: what is on this machine, then pushes by digest, tags
    /// at the very end.
    pub(crate) const fn rank(&self) -> u8 {
        match self {
            Self::File(_) => 0,
            Self::Folder(_) => 1,
            Self::Load(_) => 2,
            Self::Name(StagedName { tag: None, .. }) => 3,
            Self::Name(_) => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_no_text_survive_json() {
        let path = ExactPath(OsString::from_vec(b"a/\xff\xfe b".to_vec()).into());
        let text = serde_json::to_string(&path).expect("text");
        assert_eq!(serde_json::from_str::<ExactPath>(&text).expect("a path"), path);
    }

    #[test]
    fn tags_come_last() {
        let name = |tag: Option<&str>| {
            ReleaseItem::Name(StagedName {
                domain: "h".into(),
                path: "p".into(),
                tag: tag.map(str::to_owned),
                insecure: false,
                digest: Digest::of(b""),
                media_type: String::new(),
                document: String::new(),
                before: None,
            })
        };
        let load = ReleaseItem::Load(StagedLoad { archive: "0.tar".into(), context: None });
        let mut items = [name(Some("t")), load, name(None)];
        items.sort_by_key(ReleaseItem::rank);
        assert_eq!(items[2].shown(), "h/p:t");
        assert!(items[1].shown().starts_with("h/p@sha256:"));
    }
}
