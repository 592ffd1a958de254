//! Whether the file system of a state directory has locks that keep all its users apart: without them two processes would
//! make, remove and take for dead each other's things. Says so before anything is used; a file system that refuses locks
//! outright shows at the first one (`run.rs`).

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::error::{StoreError, StoreResult};

/// Refuses a network file system that is mounted so that its locks hold on this machine alone (`nolock`, `local_lock=` of
/// nfs(5), `nobrl` of mount.cifs(8)). A path that does not exist yet is judged by what it will lie in.
///
/// *Cost:* one `statfs`; on a network file system also a read of the table of mounts.
///
/// # Errors
/// When the locks are local.
pub(super) fn check_locks(path: &Path) -> StoreResult<()> {
    let Some(there) = path.ancestors().find(|it| it.exists()) else { return Ok(()) };
    let Ok(stat) = rustix::fs::statfs(there) else { return Ok(()) };
    if !NETWORK.contains(&(stat.f_type as u32)) {
        return Ok(());
    }
    let device = fs::metadata(there).map_err(StoreError::io("look at", there))?.dev();
    // Without the table nothing is known against it.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match local_lock_option(&mounts, rustix::fs::major(device), rustix::fs::minor(device)) {
        Some(option) => Err(StoreError::LocalLocks { path: path.to_owned(), option }),
        None => Ok(()),
    }
}

/// The numbers of file systems that several machines share (statfs(2)): NFS, SMB, SMB 2 and CIFS.
const NETWORK: [u32; 4] = [0x6969, 0x517B, 0xFE53_4D42, 0xFF53_4D42];

/// The option of the mount of a device that makes its locks local; `mounts` has the form of proc_pid_mountinfo(5).
fn local_lock_option(mounts: &str, major: u32, minor: u32) -> Option<String> {
    let device = format!("{major}:{minor}");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&*device))?;
    let (_, of_file_system) = line.split_once(" - ")?;
    let options = of_file_system.split(' ').nth(2)?;
    let is_local = |option: &&str| matches!(*option, "nolock" | "local_lock=all" | "local_lock=flock" | "nobrl");
    options.split(',').find(is_local).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "36 35 98:0 / / rw,noatime master:1 - ext4 /dev/root rw,errors=continue\n\
        40 36 0:51 / /nfs rw - nfs4 server:/x rw,vers=4.2,local_lock=none,addr=192.0.2.1\n\
        41 36 0:52 / /old rw shared:7 - nfs server:/y rw,vers=3,nolock,local_lock=all\n\
        42 36 0:53 / /win rw - cifs //server/z rw,nobrl\n";

    #[test]
    fn local_locks_are_told_by_the_option_of_the_mount() {
        let option = |minor| local_lock_option(MOUNTS, 0, minor);
        assert_eq!(option(51), None);
        assert_eq!(option(52).as_deref(), Some("nolock"));
        assert_eq!(option(53).as_deref(), Some("nobrl"));
        assert_eq!(option(54), None);
    }

    #[test]
    fn a_local_disk_is_fine_also_before_the_folder_is_there() {
        let temp = tempfile::tempdir().unwrap();
        assert!(check_locks(&temp.path().join("a/b")).is_ok());
    }
}
