//! Namespaces of `bake` itself: what it must enter to be able to mount and to change ids.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rustix::{
    fs::{Gid, Uid},
    io::Errno,
    mount::{MountPropagationFlags, mount_change},
    process::{getegid, geteuid},
    thread::{CapabilitySet, UnshareFlags, capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::{
    command::command,
    error::{Diagnosis, SUBUID_HELP},
    sys,
};

/// The ids that the user namespace of the process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceIds {
    /// More than the user's own: files can have owners.
    Several,
    /// The user's own alone, as root.
    One,
}

/// Makes this process root of a user namespace with a mount namespace of its own, unless it is root already: then it
/// only gets mounts of its own. Must be called while the process has one thread.
///
/// The ids of the namespace are the user's own as 0, and those that /etc/subuid and /etc/subgid give from 1 on. Without
/// such there is only 0: then nothing can have another owner, and commands can only run as root. Returns which of the two it
/// is.
pub(crate) fn enter_user_namespace() -> Result<NamespaceIds, Diagnosis> {
    if geteuid().is_root() && isolate_mounts().is_ok() {
        return Ok(NamespaceIds::Several);
    }
    let mapping = IdMapping::find();
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
    match mapping {
        IdMapping::Ranges { .. } | IdMapping::Identity { .. } => with_helper(&mapping, flags)?,
        IdMapping::Single => {
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            sys::unshare(flags).map_err(diagnose)?;
            map_single(uid, gid).map_err(|error| refused_map(&error))?;
        }
    }
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    // Groups cannot be changed where only the user's own is known; then they do no harm either.
    let _kept = set_thread_groups(&[]);
    set_thread_res_gid(gid, gid, gid).and_then(|()| set_thread_res_uid(uid, uid, uid)).map_err(diagnose)?;
    make_private().map_err(diagnose)?;
    Ok(match mapping {
        IdMapping::Ranges { .. } | IdMapping::Identity { .. } => NamespaceIds::Several,
        IdMapping::Single => NamespaceIds::One,
    })
}

/// Waits until this thread is the only one of the process again. A thread that was joined counts until the kernel has taken
/// it off the list, and a user namespace can be entered only by a process with one thread (`unshare(2)`, `CLONE_NEWUSER`).
pub(crate) fn wait_for_ended_threads() {
    const MOST_ROUNDS: usize = 10_000;
    for _ in 0..MOST_ROUNDS {
        if fs::read_dir("/proc/self/task").map_or(true, |threads| threads.count() <= 1) {
            return;
        }
        std::thread::yield_now();
    }
}

/// Gives this process its own mounts, so that none of ours is seen outside or stays behind. Needs root.
fn isolate_mounts() -> Result<(), Diagnosis> {
    sys::unshare(UnshareFlags::NEWNS).and_then(|()| make_private()).map_err(diagnose)
}

/// Whether the process is in another user namespace than that of the machine: root there may less.
pub(crate) fn is_user_namespace() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    // The first one has this number on every kernel (`PROC_USER_INIT_INO`).
    *ANSWER.get_or_init(|| !fs::read_link("/proc/self/ns/user").is_ok_and(|it| it == Path::new("user:[4026531837]")))
}

fn make_private() -> rustix::io::Result<()> {
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
}

/// How ids inside the new namespace relate to those outside.
enum IdMapping {
    /// Lines of the maps, as the set-user-id programs write them.
    Ranges { uids: String, gids: String, programs: [PathBuf; 2] },
    /// All ids that we have, unchanged: we are root without the right to mount, and may write the maps ourselves.
    Identity { uids: String, gids: String },
    /// The user's own id as 0.
    Single,
}

impl IdMapping {
    fn find() -> Self {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        if uid == 0 {
            let may = capabilities(None).is_ok_and(|it| it.effective.contains(CapabilitySet::SETUID));
            return match (may, identity("/proc/self/uid_map"), identity("/proc/self/gid_map")) {
                (true, Some(uids), Some(gids)) => Self::Identity { uids, gids },
                _ => Self::Single,
            };
        }
        let name = user_name(&fs::read("/etc/passwd").unwrap_or_default(), uid);
        let maps = ["/etc/subuid", "/etc/subgid"].map(|file| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let own = if file.ends_with("uid") { uid } else { gid };
            ranges(&text, name.as_deref(), uid).map(|ranges| lines(own, &ranges))
        });
        match (maps, find_program("newuidmap"), find_program("newgidmap")) {
            ([Some(uids), Some(gids)], Some(first), Some(second)) => {
                Self::Ranges { uids, gids, programs: [first, second] }
            }
            _ => Self::Single,
        }
    }
}

/// Enters the namespace while a child that stays outside writes the maps.
fn with_helper(mapping: &IdMapping, flags: UnshareFlags) -> Result<(), Diagnosis> {
    let failed = |error: io::Error| Diagnosis {
        problem: format!("cannot start a helper to enter a user namespace: {error}"),
        help: String::new(),
    };
    let (wait, go) = io::pipe().map_err(failed)?;
    let parent = std::process::id();
    let Some(child) = sys::fork().map_err(failed)? else {
        drop(go);
        sys::exit_now(i32::from(!write_maps(mapping, parent, wait)));
    };
    drop(wait);
    let entered = sys::unshare(flags);
    if entered.is_ok() {
        let _child_gone = io::Write::write_all(&mut &go, b"!");
    }
    drop(go);
    let written = sys::wait(child).map_err(failed)?;
    entered.map_err(diagnose)?;
    if written {
        return Ok(());
    }
    Err(Diagnosis {
        problem: "the ids of /etc/subuid and /etc/subgid could not be mapped: newuidmap or newgidmap failed".to_owned(),
        help: format!("check that both are set-user-id root and that the ranges do not overlap; else {SUBUID_HELP}"),
    })
}

/// The child's part: waits until the parent is in its namespace, then writes its maps. True if both are written.
fn write_maps(mapping: &IdMapping, parent: u32, mut wait: io::PipeReader) -> bool {
    let mut sign = [0];
    if io::Read::read_exact(&mut wait, &mut sign).is_err() {
        return true; // The parent could not enter; it says so itself.
    }
    match mapping {
        IdMapping::Ranges { uids, gids, programs } => programs.iter().zip([uids, gids]).all(|(program, map)| {
            let run = command(program).arg(parent.to_string()).args(map.split_whitespace()).status();
            run.is_ok_and(|status| status.success())
        }),
        IdMapping::Identity { uids, gids } => {
            fs::write(format!("/proc/{parent}/uid_map"), uids).is_ok()
                && fs::write(format!("/proc/{parent}/gid_map"), gids).is_ok()
        }
        IdMapping::Single => true,
    }
}

/// Maps one id of the enclosing user namespace to root of the namespace that this process has just entered
/// (user_namespaces(7)).
pub(super) fn map_single(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    // Absent before Linux 3.19.
    let _absent = fs::write("/proc/self/setgroups", "deny");
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// The map of this namespace, for one inside it with the same ids: `first first count` for each range.
fn identity(map: &str) -> Option<String> {
    let text = fs::read_to_string(map).ok()?;
    let mut lines = String::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let (first, count) = (fields.next()?, fields.nth(1)?);
        lines.extend([first, " ", first, " ", count, "\n"]);
    }
    Some(lines).filter(|it| !it.is_empty())
}

/// The user's ranges in /etc/subuid or /etc/subgid; both name the *user*, by name or number.
fn ranges(text: &str, name: Option<&str>, uid: u32) -> Option<Vec<(u32, u32)>> {
    let number = uid.to_string();
    let found: Vec<(u32, u32)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (who, first, count) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (Some(who) == name || who == number).then_some((first, count))
        })
        .filter(|(first, count): &(u32, u32)| *count > 0 && first.checked_add(*count).is_some())
        .collect();
    (!found.is_empty()).then_some(found)
}

fn lines(own: u32, ranges: &[(u32, u32)]) -> String {
    let mut text = format!("0 {own} 1\n");
    let mut next: u32 = 1;
    for (first, count) in ranges {
        let count = (*count).min(u32::MAX - next);
        text.push_str(&[next, *first, count].map(|it| it.to_string()).join(" "));
        text.push('\n');
        next += count;
    }
    text
}

fn user_name(passwd: &[u8], uid: u32) -> Option<String> {
    let text = String::from_utf8_lossy(passwd);
    let number = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(&number)).then(|| name.to_owned())
    })
}

fn find_program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/run/wrappers/bin", "/run/current-system/sw/bin"]
        .into_iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists())
}

fn refused_map(error: &io::Error) -> Diagnosis {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::PERM);
    diagnose(errno)
}

/// Finds out why the kernel refused a namespace with `errno`, and what the user can change.
pub(super) fn diagnose(errno: Errno) -> Diagnosis {
    let setting =
        |name: &str| -> Option<i64> { fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().parse().ok() };
    let filtered = || {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
    };
    let (problem, help) = if setting("kernel/unprivileged_userns_clone") == Some(0) {
        (
            "this system lets ordinary users make no user namespaces (kernel.unprivileged_userns_clone = 0)",
            "`sudo sysctl -w kernel.unprivileged_userns_clone=1`, or run as root",
        )
    } else if setting("user/max_user_namespaces") == Some(0) {
        (
            "this system lets nobody make user namespaces (user.max_user_namespaces = 0)",
            "`sudo sysctl -w user.max_user_namespaces=15000`, or run as root",
        )
    } else if setting("kernel/apparmor_restrict_unprivileged_userns").is_some_and(|it| it != 0) {
        (
            "AppArmor keeps ordinary users from using user namespaces \
             (kernel.apparmor_restrict_unprivileged_userns = 1)",
            "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or give the program an AppArmor profile \
             that allows `userns`, or run as root",
        )
    } else if errno == Errno::NOSPC || errno == Errno::USERS {
        (
            "the limit of user namespaces, or of their nesting, is reached",
            "`sudo sysctl -w user.max_user_namespaces=15000`, and end what holds many of them",
        )
    } else if filtered() {
        (
            "the container that bake runs in does not let it make namespaces (a system call filter is active)",
            "start that container with `--privileged`, or with `--security-opt seccomp=unconfined --security-opt \
             apparmor=unconfined --security-opt systempaths=unconfined`",
        )
    } else {
        (
            "the system does not let bake make namespaces",
            "run as root, or inside a container with `--privileged`; in a chroot it is not possible",
        )
    };
    Diagnosis { problem: format!("{problem}: {errno}"), help: help.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_or_number() {
        let text = "root:1:1\nme:100000:65536\n1000:300000:10\nme:bad:1\nme:4294967295:5\nyou:5:5\n";
        let found = ranges(text, Some("me"), 1000).unwrap();
        assert_eq!(found, [(100_000, 65536), (300_000, 10)]);
        assert_eq!(ranges(text, None, 7), None);
        assert_eq!(lines(1000, &found), "0 1000 1\n1 100000 65536\n65537 300000 10\n");
    }

    #[test]
    fn user_names_are_found_by_number() {
        assert_eq!(user_name(b"root:x:0:0\nme:x:1000:1000:::\n", 1000).as_deref(), Some("me"));
        assert_eq!(user_name(b"root:x:0:0\n", 5), None);
    }
}
