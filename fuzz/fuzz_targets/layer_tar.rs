//! `bake::fuzz::layer_tar`, as a target of libFuzzer: each input is unpacked into a fresh folder, and must leave everything
//! beside it as it was. Folders are made in `TMPDIR`.

#![no_main]

use std::{fs, path::Path};

libfuzzer_sys::fuzz_target!(init: bake::fuzz::record_owners(), |data: &[u8]| {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let (dest, lower) = (root.path().join("dest"), root.path().join("lower"));
    fs::create_dir(&dest).expect("the folder is new");
    fs::create_dir_all(lower.join("dir/deep")).expect("the folder is new");
    fs::write(lower.join("below"), "below").expect("the folder is writable");
    fs::write(lower.join("dir/deep/file"), "file").expect("the folder is writable");
    std::os::unix::fs::symlink("dir/deep", lower.join("link")).expect("the folder is writable");
    bake::fuzz::layer_tar(data, &dest, &lower);
    let names: Vec<_> = fs::read_dir(root.path()).expect("readable").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 2, "something was written beside the folder: {names:?}");
    assert_eq!(fs::read(lower.join("below")).expect("still there"), b"below", "a lower layer was changed");
    assert_eq!(fs::read_dir(&lower).expect("still there").count(), 3, "a lower layer was changed");
    assert_eq!(fs::read(lower.join("dir/deep/file")).expect("still there"), b"file", "a lower layer was changed");
    // A layer may hold folders without permissions for their owner.
    open_folders(&dest);
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    // Wrong checksums and damaged compressed bytes are tried as well.
    let is_compressed = data.starts_with(b"\x1f\x8b") || data.starts_with(b"\x28\xb5") || data.starts_with(b"BZh");
    if !seed.is_multiple_of(16) && !is_compressed && !data.starts_with(b"\xfd7z") {
        bake::fuzz::mend_checksums(&mut data[..size]);
    }
    size
});

fn open_folders(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).ok();
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_folders(&entry.path());
        }
    }
}
