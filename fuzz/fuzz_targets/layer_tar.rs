//! `bake::fuzz::layer_tar`, as a target of libFuzzer: each input is unpacked into a fresh folder in memory, and must
//! leave everything beside it as it was.

#![no_main]

use std::{fs, path::Path};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let root = root.expect("a temporary folder can be made");
    let (dest, lower) = (root.path().join("dest"), root.path().join("lower"));
    fs::create_dir(&dest).expect("the folder is new");
    fs::create_dir(&lower).expect("the folder is new");
    fs::write(lower.join("below"), "below").expect("the folder is writable");
    bake::fuzz::layer_tar(data, &dest, &lower);
    let names: Vec<_> = fs::read_dir(root.path()).expect("readable").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 2, "something was written beside the folder: {names:?}");
    assert_eq!(fs::read(lower.join("below")).expect("still there"), b"below", "a lower layer was changed");
    // A layer may hold folders without permissions for their owner.
    open_folders(&dest);
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
