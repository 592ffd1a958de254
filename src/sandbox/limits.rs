//! What the command of a step may use and do: resource limits (setrlimit(2)), capabilities(7), user and group ids.

use rustix::{
    fs::{Gid, Uid},
    io::Errno,
    process::{Resource, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
        set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use super::{error::SandboxError, user::Ids};
use crate::spec::{SecurityMode, Ulimit, UlimitName};

/// Sets the resource limits that were asked for (setrlimit(2)); the others are inherited.
pub(super) fn set_rlimits(limits: &[Ulimit]) -> Result<(), SandboxError> {
    for limit in limits {
        let (soft, hard) = limit.values();
        let both = rustix::process::Rlimit { current: soft, maximum: hard };
        setrlimit(resource(limit.name), both).map_err(|errno| SandboxError::Limit {
            limit: format!("the limit `{}`", limit.name.as_str()),
            value: format!("{}:{}", limit.soft, limit.hard),
            errno: errno.raw_os_error(),
        })?;
    }
    Ok(())
}

fn resource(name: UlimitName) -> Resource {
    match name {
        UlimitName::Core => Resource::Core,
        UlimitName::Cpu => Resource::Cpu,
        UlimitName::Data => Resource::Data,
        UlimitName::Fsize => Resource::Fsize,
        UlimitName::Locks => Resource::Locks,
        UlimitName::Memlock => Resource::Memlock,
        UlimitName::Msgqueue => Resource::Msgqueue,
        UlimitName::Nice => Resource::Nice,
        UlimitName::Nofile => Resource::Nofile,
        UlimitName::Nproc => Resource::Nproc,
        UlimitName::Rss => Resource::Rss,
        UlimitName::Rtprio => Resource::Rtprio,
        UlimitName::Rttime => Resource::Rttime,
        UlimitName::Sigpending => Resource::Sigpending,
        UlimitName::Stack => Resource::Stack,
    }
}

/// The capabilities of a process in the sandbox: those that containers have by default.
pub(super) const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Changes to the user of the step, with the capabilities that are left to it. Nothing that needs more may come after.
///
/// `allowed` are the capabilities of a step in the sandbox; it loses all others.
pub(super) fn become_user(
    ids: &Ids,
    security: SecurityMode,
    allowed: CapabilitySet,
    user_namespace: bool,
) -> Result<(), SandboxError> {
    let failed = |action: &str| {
        let action = action.to_owned();
        move |errno: Errno| SandboxError::Setup { action, errno: errno.raw_os_error() }
    };
    let had = capabilities(None).map_err(failed("read its capabilities"))?;
    let kept = match security {
        SecurityMode::Sandbox => had.permitted & allowed,
        SecurityMode::Insecure => had.permitted,
    };
    if security == SecurityMode::Sandbox {
        for bit in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            if !allowed.contains(one) && remove_capability_from_bounding_set(one) == Err(Errno::INVAL) {
                break; // the first one the kernel does not know
            }
        }
    }
    let _none_before_4_3 = clear_ambient_capability_set();
    let groups: Vec<Gid> = ids.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match set_thread_groups(&groups) {
        // A namespace with the user's own id alone knows no groups.
        Err(Errno::PERM | Errno::INVAL) if user_namespace => (),
        other => other.map_err(failed("set the groups of the user"))?,
    }
    let gid = Gid::from_raw(ids.gid);
    set_thread_res_gid(gid, gid, gid).map_err(|errno| id_failed(ids.gid, errno))?;
    // They include SETUID, which is used next; for another user than root the kernel then drops them all.
    let left = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, left).map_err(failed("drop capabilities"))?;
    let uid = Uid::from_raw(ids.uid);
    set_thread_res_uid(uid, uid, uid).map_err(|errno| id_failed(ids.uid, errno))
}

fn id_failed(id: u32, errno: Errno) -> SandboxError {
    match errno {
        Errno::INVAL => SandboxError::Unmapped { id },
        _ => SandboxError::Setup { action: format!("become user {id}"), errno: errno.raw_os_error() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_capabilities_are_those_of_containers() {
        assert_eq!(KEPT.bits(), 0xa804_25fb);
    }
}
