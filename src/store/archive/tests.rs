//! What is exported is there after the import, and nothing else is.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use super::{form::HEAD, read::ArchiveFault};
use crate::{
    oci::Digest,
    store::{SnapshotId, SnapshotMeta, Store, Table},
};

fn filled() -> (tempfile::TempDir, Store, Digest, SnapshotId) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let blob = store.put_blob(b"a blob").unwrap();
    let active = store.prepare().unwrap();
    let tree = active.fs();
    fs::create_dir(tree.join("dir")).unwrap();
    fs::write(tree.join("dir/file"), vec![7; 300_000]).unwrap();
    fs::set_permissions(tree.join("dir/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(tree.join("dir/file"), tree.join("dir/again")).unwrap();
    symlink("/etc/passwd", tree.join("link")).unwrap();
    fs::set_permissions(tree.join("dir"), fs::Permissions::from_mode(0o1777)).unwrap();
    let id = SnapshotId(Digest::of(b"snapshot"));
    active.commit(&id, SnapshotMeta { created: "2026-01-01T00:00:00Z".to_owned() }).unwrap();
    store.finish_digests();
    store.put(Table::Vertex, &Digest::of(b"key"), &"a tree").unwrap();
    store.put(Table::Receipt, &Digest::of(b"receipt"), &"of this machine").unwrap();
    (home, store, blob, id)
}

fn archive(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.export_archive(&mut bytes, "root").unwrap();
    bytes
}

#[test]
fn what_is_exported_is_there_after_the_import() {
    let (_home, store, blob, id) = filled();
    let bytes = archive(&store);
    let other = tempfile::tempdir().unwrap();
    let copy = Store::open(other.path()).unwrap();
    let imported = copy.import_archive(&bytes[..], "root").unwrap();
    assert_eq!((imported.n_blobs, imported.n_snapshots, imported.n_records), (1, 1, 1));
    assert_eq!(copy.blob_bytes(&blob).unwrap(), b"a blob");
    assert!(copy.usable(&id));
    assert_eq!(copy.snapshot_meta(&id).unwrap().created, "2026-01-01T00:00:00Z");
    let tree = copy.snapshot_fs(&id);
    let meta = fs::metadata(tree.join("dir/again")).unwrap();
    assert_eq!((meta.nlink(), meta.mode() & 0o7777, meta.len()), (2, 0o4751, 300_000));
    assert_eq!(fs::metadata(tree.join("dir")).unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(fs::read_link(tree.join("link")).unwrap().to_str(), Some("/etc/passwd"));
    assert_eq!(copy.get::<String>(Table::Vertex, &Digest::of(b"key")).as_deref(), Some("a tree"));
    assert!(copy.get::<String>(Table::Receipt, &Digest::of(b"receipt")).is_none());
    copy.finish_digests();
    assert!(copy.verify().is_empty());
    // Once more changes nothing.
    let again = copy.import_archive(&bytes[..], "root").unwrap();
    assert_eq!((again.n_blobs, again.n_snapshots, again.n_records), (0, 0, 0));
}

#[test]
fn other_makers_and_later_versions_are_refused_and_damage_is_left_out() {
    let (_home, store, blob, id) = filled();
    let bytes = archive(&store);
    let other = tempfile::tempdir().unwrap();
    let copy = Store::open(other.path()).unwrap();
    assert!(matches!(copy.import_archive(&bytes[..], "user"), Err(ArchiveFault::Maker(maker)) if maker == "root"));
    let plain = zstd::decode_all(&bytes[..]).unwrap();
    let changed = |from: &[u8], to: &[u8]| {
        let mut plain = plain.clone();
        let at = plain.windows(from.len()).position(|window| window == from).unwrap();
        plain[at..at + to.len()].copy_from_slice(to);
        zstd::encode_all(&plain[..], 1).unwrap()
    };
    let later = changed(b"\"version\":1", b"\"version\":9");
    assert!(matches!(copy.import_archive(&later[..], "root"), Err(ArchiveFault::Version(9))));
    let damaged = changed(&[7; 100], &[8; 100]);
    let imported = copy.import_archive(&damaged[..], "root").unwrap();
    assert_eq!((imported.n_blobs, imported.n_snapshots, imported.n_damaged), (1, 0, 1));
    assert!(!copy.has_snapshot(&id));
    let damaged = changed(b"a blob", b"A BLOB");
    let empty = tempfile::tempdir().unwrap();
    let copy = Store::open(empty.path()).unwrap();
    let imported = copy.import_archive(&damaged[..], "root").unwrap();
    assert_eq!((imported.n_blobs, imported.n_snapshots, imported.n_damaged), (0, 1, 1));
    assert_eq!(copy.blob_size(&blob), None);
    assert!(matches!(copy.import_archive(&bytes[..bytes.len() / 2], "root"), Err(ArchiveFault::Archive(_))));
    assert!(matches!(
        copy.import_archive(&b"no archive"[..], "root"),
        Err(ArchiveFault::Archive(_) | ArchiveFault::Foreign)
    ));
}

#[test]
fn no_member_reaches_what_is_outside_of_its_snapshot() {
    use crate::archive::{TarEntry, TarMemberKind, TarWriter};
    let outside = tempfile::tempdir().unwrap();
    let hex = Digest::of(b"evil").hex();
    let head = br#"{"version":1,"maker":"root"}"#;
    let snapshot = format!(r#"{{"created":"","content":"{}"}}"#, Digest::of(b"x"));
    let escape = format!("snapshots/{hex}/fs/link/planted");
    let dots = format!("snapshots/{hex}/fs/../../../planted");
    let target = outside.path().to_str().unwrap().as_bytes().to_vec();
    for path in [escape, dots] {
        let mut tar = TarWriter::new(Vec::new());
        tar.append(&TarEntry::file(HEAD.as_bytes(), 0o600, head.len() as u64), &mut &head[..]).unwrap();
        let name = format!("snapshots/{hex}");
        tar.append(&TarEntry::file(name.as_bytes(), 0o600, snapshot.len() as u64), &mut snapshot.as_bytes()).unwrap();
        let link = format!("snapshots/{hex}/fs/link");
        let entry =
            TarEntry { kind: TarMemberKind::Symlink, link: &target, ..TarEntry::file(link.as_bytes(), 0o777, 0) };
        tar.append(&entry, &mut &b""[..]).unwrap();
        tar.append(&TarEntry::file(path.as_bytes(), 0o644, 4), &mut &b"evil"[..]).unwrap();
        let bytes = zstd::encode_all(&tar.finish().unwrap()[..], 1).unwrap();
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        assert!(matches!(store.import_archive(&bytes[..], "root"), Err(ArchiveFault::Member(_))), "{path}");
        assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
        assert!(!home.path().join("planted").exists() && !store.has_snapshot(&SnapshotId(Digest::of(b"evil"))));
    }
}
