//! The system call filter of a sandboxed command: the effect of the default profile of containers.
//!
//! What needs a capability that the command does not have, reaches the kernel's keys, tracing or modules, or makes or
//! enters namespaces is answered with EPERM; a call unknown to us with ENOSYS, so that libraries fall back to older ones.
//! The numbers are arranged as a binary tree of ranges: a filter is run for each call number when it is installed, and a
//! linear one of this size would cost more than starting the process.

use std::ffi::c_long;

use libc::sock_filter;

use super::spec::StepOwners;

/// `seccomp_data`: the call's number, the architecture, and the low half of the first argument.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// The call does nothing and succeeds.
const NOTHING: u32 = libc::SECCOMP_RET_ERRNO;

/// The newest call we know: `file_setattr`. Since 424 the numbers are the same everywhere.
const NEWEST: u32 = 469;

/// Where the numbers begin that 32-bit architectures have in common; the 64-bit ones have no calls from here to 423.
const FIRST_COMMON: u32 = 403;

/// What happens to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SyscallRule {
    Return(u32),
    /// EPERM if the first argument has one of these bits.
    UnlessBits(u32),
    /// EPERM if the first argument is this.
    UnlessIs(u32),
    /// EPERM unless the first argument is one of these.
    OnlyIf(&'static [u32]),
}

/// Flags of `clone` that make namespaces.
pub(super) const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();

/// Personalities that weaken nothing: Linux, UNAME26, 32-bit, both, and asking for the current one.
const PERSONALITIES: &[u32] = &[0, 8, 0x0002_0000, 0x0002_0008, u32::MAX];

/// Denied calls with the same number on every architecture.
const DENIED_EVERYWHERE: &[(u32, &str)] = &[
    (425, "io_uring_setup"),
    (426, "io_uring_enter"),
    (427, "io_uring_register"),
    (428, "open_tree"),
    (429, "move_mount"),
    (430, "fsopen"),
    (431, "fsconfig"),
    (432, "fsmount"),
    (433, "fspick"),
    (438, "pidfd_getfd"),
    (440, "process_madvise"),
    (442, "mount_setattr"),
    (443, "quotactl_fd"),
    (450, "set_mempolicy_home_node"),
    (467, "open_tree_attr"),
];

/// Calls known but not offered: libraries have to do without them. The flags of `clone3` lie in memory, where a filter
/// cannot look.
const MISSING_EVERYWHERE: &[(u32, &str)] = &[
    (435, "clone3"),
    (457, "statmount"),
    (458, "listmount"),
    (459, "lsm_get_self_attr"),
    (460, "lsm_set_self_attr"),
    (461, "lsm_list_modules"),
];

/// One way of calling the kernel.
struct Abi {
    arch: u32,
    denied: &'static [c_long],
    clone: c_long,
    socket: c_long,
    personality: c_long,
    /// Those that change owners or groups.
    owners: &'static [c_long],
    /// The last of its own numbers before the common ones, which begin at 403 or 424.
    own_last: u32,
    /// Further numbers that are allowed.
    beyond: Option<(u32, u32)>,
}

/// Denied calls that each 64-bit architecture has under its own number, given to another macro.
macro_rules! each_denied {
    ($give:ident $($more:ident)*) => {
        $give!(
            SYS_acct SYS_add_key SYS_bpf SYS_clock_adjtime SYS_clock_settime SYS_delete_module
            SYS_fanotify_init SYS_finit_module SYS_get_mempolicy SYS_init_module SYS_kcmp SYS_kexec_load
            SYS_kexec_file_load SYS_keyctl SYS_lookup_dcookie SYS_mbind SYS_migrate_pages SYS_mount
            SYS_move_pages SYS_nfsservctl SYS_open_by_handle_at SYS_perf_event_open SYS_pivot_root SYS_quotactl
            SYS_reboot SYS_request_key SYS_set_mempolicy SYS_setdomainname SYS_sethostname SYS_setns
            SYS_settimeofday SYS_swapoff SYS_swapon SYS_syslog SYS_umount2 SYS_unshare SYS_userfaultfd
            SYS_vhangup $($more)*
        )
    };
}

macro_rules! numbers {
    ($($name:ident)*) => { &[$(libc::$name,)*] };
}

macro_rules! names {
    ($($name:ident)*) => { &[$(stringify!($name),)*] };
}

#[cfg(target_arch = "x86_64")]
const ABIS: &[Abi] = &[
    Abi {
        arch: 0xC000_003E,
        denied: each_denied!(numbers SYS__sysctl SYS_ioperm SYS_iopl SYS_sysfs SYS_uselib SYS_ustat),
        clone: libc::SYS_clone,
        socket: libc::SYS_socket,
        personality: libc::SYS_personality,
        owners: &[libc::SYS_chown, libc::SYS_fchown, libc::SYS_lchown, libc::SYS_fchownat, libc::SYS_setgroups],
        own_last: 335,
        beyond: None,
    },
    // 32-bit x86, for images of that platform.
    Abi {
        arch: 0x4000_0003,
        denied: &[
            21, 22, 25, 51, 52, 62, 74, 79, 86, 87, 88, 101, 103, 110, 111, 113, 115, 121, 127, 128, 129, 130, 131,
            135, 149, 166, 167, 169, 217, 253, 264, 274, 275, 276, 283, 286, 287, 288, 294, 310, 317, 336, 338, 342,
            343, 346, 349, 350, 357, 374, 404, 405,
        ],
        clone: 120,
        socket: 359,
        personality: 136,
        owners: &[16, 81, 95, 182, 198, 206, 207, 212, 298],
        own_last: 386,
        beyond: None,
    },
];

#[cfg(target_arch = "aarch64")]
const ABIS: &[Abi] = &[
    Abi {
        arch: 0xC000_00B7,
        denied: each_denied!(numbers),
        clone: libc::SYS_clone,
        socket: libc::SYS_socket,
        personality: libc::SYS_personality,
        owners: &[libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_setgroups],
        own_last: 294,
        beyond: None,
    },
    // 32-bit ARM, for images of that platform; its private calls set up threads and caches.
    Abi {
        arch: 0x4000_0028,
        denied: &[
            21, 51, 52, 62, 74, 79, 86, 87, 88, 103, 111, 115, 121, 128, 129, 131, 135, 149, 169, 218, 249, 262, 309,
            310, 311, 319, 320, 321, 337, 344, 347, 364, 367, 371, 372, 375, 378, 379, 386, 388, 400, 401, 404, 405,
        ],
        clone: 120,
        socket: 281,
        personality: 136,
        owners: &[16, 81, 95, 182, 198, 206, 207, 212, 325],
        own_last: 401,
        beyond: Some((0x0f_0001, 0x0f_0006)),
    },
];

/// What this machine's own calls of [`ABIS`] are called.
#[cfg(target_arch = "x86_64")]
const DENIED_NAMES: &[&str] = each_denied!(names SYS__sysctl SYS_ioperm SYS_iopl SYS_sysfs SYS_uselib SYS_ustat);
#[cfg(target_arch = "aarch64")]
const DENIED_NAMES: &[&str] = each_denied!(names);

/// The names of the calls that are answered with EPERM, whatever their arguments.
pub(super) fn denied_names() -> impl Iterator<Item = &'static str> {
    let own = DENIED_NAMES.iter().map(|it| it.trim_start_matches("SYS_"));
    own.chain(DENIED_EVERYWHERE.iter().map(|(_, name)| *name))
}

/// The names of the calls that are answered with ENOSYS.
pub(super) fn missing_names() -> impl Iterator<Item = &'static str> {
    MISSING_EVERYWHERE.iter().map(|(_, name)| *name)
}

/// The calls that change owners, which do nothing and succeed where owners are recorded.
pub(super) const OWNER_CALLS: &[&str] =
    &["chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32", "setgroups", "setgroups32"];

/// The whole system call filter as a BPF program (seccomp(2)).
pub(super) fn program(owners: StepOwners) -> Vec<sock_filter> {
    let mut code = vec![load(ARCH)];
    for abi in ABIS {
        let mut body = vec![load(NUMBER)];
        tree(&ranges(abi, owners), &mut body);
        let len = u32::try_from(body.len()).expect("a filter has at most 4096 instructions");
        code.push(jump(libc::BPF_JEQ, abi.arch, 1, 0));
        code.push(sock_filter { code: (libc::BPF_JMP | libc::BPF_JA) as u16, jt: 0, jf: 0, k: len });
        code.append(&mut body);
    }
    code.push(ret(ENOSYS));
    code
}

/// The rule of each call number: where a range begins, up to where the next one does.
fn ranges(abi: &Abi, owners: StepOwners) -> Vec<(u32, SyscallRule)> {
    let own = |call: c_long| u32::try_from(call).expect("call numbers are small and positive");
    let mut special = vec![
        (own(abi.clone), SyscallRule::UnlessBits(NEW_NAMESPACES)),
        (own(abi.socket), SyscallRule::UnlessIs(libc::AF_VSOCK.cast_unsigned())),
        (own(abi.personality), SyscallRule::OnlyIf(PERSONALITIES)),
    ];
    let denied = abi.denied.iter().map(|call| own(*call)).chain(DENIED_EVERYWHERE.iter().map(|it| it.0));
    special.extend(denied.map(|number| (number, SyscallRule::Return(EPERM))));
    if owners == StepOwners::Recorded {
        special.extend(abi.owners.iter().map(|call| (own(*call), SyscallRule::Return(NOTHING))));
    }
    special.extend(MISSING_EVERYWHERE.iter().map(|it| (it.0, SyscallRule::Return(ENOSYS))));
    special.sort_unstable_by_key(|(number, _)| *number);
    special.dedup_by_key(|(number, _)| *number);

    let usual = |number: u32| match number {
        number if number <= abi.own_last => ALLOW,
        FIRST_COMMON..=NEWEST => ALLOW,
        number if abi.beyond.is_some_and(|(first, last)| (first..=last).contains(&number)) => ALLOW,
        _ => ENOSYS,
    };
    let (first, last) = abi.beyond.unwrap_or((NEWEST + 1, NEWEST));
    let mut changes = vec![0, abi.own_last + 1, FIRST_COMMON, NEWEST + 1, first, last + 1];
    changes.extend(special.iter().flat_map(|(number, _)| [*number, number + 1]));
    changes.sort_unstable();
    changes.dedup();

    let mut special = special.into_iter().peekable();
    let mut ranges: Vec<(u32, SyscallRule)> = Vec::with_capacity(changes.len());
    for number in changes {
        let rule = match special.next_if(|(it, _)| *it == number) {
            Some((_, rule)) => rule,
            None => SyscallRule::Return(usual(number)),
        };
        if ranges.last().is_none_or(|(_, last)| *last != rule) {
            ranges.push((number, rule));
        }
    }
    ranges
}

/// Finds the range of the loaded number by halves.
fn tree(ranges: &[(u32, SyscallRule)], code: &mut Vec<sock_filter>) {
    if let [(_, rule)] = ranges {
        leaf(*rule, code);
        return;
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let mut below = Vec::new();
    tree(low, &mut below);
    let len = u8::try_from(below.len()).expect("half a tree of some hundred ranges is short");
    code.push(jump(libc::BPF_JGE, high[0].0, len, 0));
    code.append(&mut below);
    tree(high, code);
}

fn leaf(rule: SyscallRule, code: &mut Vec<sock_filter>) {
    match rule {
        SyscallRule::Return(answer) => code.push(ret(answer)),
        SyscallRule::UnlessBits(bits) => {
            code.extend([load(FIRST_ARGUMENT), jump(libc::BPF_JSET, bits, 0, 1), ret(EPERM), ret(ALLOW)]);
        }
        SyscallRule::UnlessIs(value) => {
            code.extend([load(FIRST_ARGUMENT), jump(libc::BPF_JEQ, value, 0, 1), ret(EPERM), ret(ALLOW)]);
        }
        SyscallRule::OnlyIf(values) => {
            code.push(load(FIRST_ARGUMENT));
            for value in values {
                code.extend([jump(libc::BPF_JEQ, *value, 0, 1), ret(ALLOW)]);
            }
            code.push(ret(EPERM));
        }
    }
}

const fn load(offset: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

const fn jump(how: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | how | libc::BPF_K) as u16, jt: if_true, jf: if_false, k: value }
}

const fn ret(answer: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers, computed as the kernel would.
    fn answer(arch: u32, number: u32, argument: u32) -> u32 {
        run(&program(StepOwners::Kept), arch, number, argument)
    }

    fn run(code: &[sock_filter], arch: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = code[at];
            at += 1;
            match u32::from(step.code) & 0x07 {
                libc::BPF_LD => {
                    value = match step.k {
                        NUMBER => number,
                        ARCH => arch,
                        FIRST_ARGUMENT => argument,
                        other => panic!("{other}"),
                    }
                }
                libc::BPF_RET => return step.k,
                libc::BPF_JMP => {
                    at += match u32::from(step.code) & 0xf0 {
                        libc::BPF_JA => step.k as usize,
                        libc::BPF_JEQ => usize::from(if value == step.k { step.jt } else { step.jf }),
                        libc::BPF_JGE => usize::from(if value >= step.k { step.jt } else { step.jf }),
                        libc::BPF_JSET => usize::from(if value & step.k != 0 { step.jt } else { step.jf }),
                        other => panic!("{other}"),
                    }
                }
                other => panic!("{other}"),
            }
        }
    }

    fn call(number: c_long) -> u32 {
        answer(ABIS[0].arch, u32::try_from(number).unwrap(), 0)
    }

    #[test]
    fn ordinary_calls_pass_and_dangerous_ones_do_not() {
        for allowed in [libc::SYS_read, libc::SYS_execve, libc::SYS_openat2, libc::SYS_ptrace, libc::SYS_chroot] {
            assert_eq!(call(allowed), ALLOW, "{allowed}");
        }
        for denied in [libc::SYS_mount, libc::SYS_unshare, libc::SYS_keyctl, libc::SYS_bpf, libc::SYS_io_uring_setup] {
            assert_eq!(call(denied), EPERM, "{denied}");
        }
        assert_eq!(call(libc::SYS_clone3), ENOSYS);
        assert_eq!(call(400), ENOSYS);
        assert_eq!(call(9999), ENOSYS);
        assert_eq!(call(0x4000_0000), ENOSYS);
    }

    #[test]
    fn arguments_decide_for_clone_socket_and_personality() {
        let with = |number: c_long, argument: u32| answer(ABIS[0].arch, u32::try_from(number).unwrap(), argument);
        assert_eq!(with(libc::SYS_clone, libc::SIGCHLD.cast_unsigned()), ALLOW);
        assert_eq!(with(libc::SYS_clone, libc::CLONE_NEWUSER.cast_unsigned()), EPERM);
        assert_eq!(with(libc::SYS_socket, libc::AF_INET.cast_unsigned()), ALLOW);
        assert_eq!(with(libc::SYS_socket, libc::AF_VSOCK.cast_unsigned()), EPERM);
        assert_eq!(with(libc::SYS_personality, u32::MAX), ALLOW);
        assert_eq!(with(libc::SYS_personality, 0x0004_0000), EPERM);
    }

    #[test]
    fn every_listed_call_is_denied_on_every_architecture() {
        for abi in ABIS {
            for number in
                abi.denied.iter().map(|it| u32::try_from(*it).unwrap()).chain(DENIED_EVERYWHERE.iter().map(|it| it.0))
            {
                assert_eq!(answer(abi.arch, number, 0), EPERM, "{number} of {:x}", abi.arch);
            }
            assert_eq!(answer(abi.arch, 435, 0), ENOSYS);
            assert_eq!(answer(abi.arch, abi.own_last + 1, 0), ENOSYS);
        }
    }

    #[test]
    fn changes_of_owners_do_nothing_where_owners_are_recorded() {
        let code = program(StepOwners::Recorded);
        for abi in ABIS {
            for number in abi.owners.iter().map(|it| u32::try_from(*it).unwrap()) {
                assert_eq!(run(&code, abi.arch, number, 0), NOTHING, "{number} of {:x}", abi.arch);
                assert_eq!(answer(abi.arch, number, 0), ALLOW, "{number} of {:x}", abi.arch);
            }
        }
    }

    #[test]
    fn other_architectures_are_refused_and_32_bit_ones_filtered() {
        assert_eq!(answer(1, 0, 0), ENOSYS);
        assert_eq!(answer(ABIS[1].arch, 21, 0), EPERM); // mount
        assert_eq!(answer(ABIS[1].arch, 4, 0), ALLOW); // write
    }
}
