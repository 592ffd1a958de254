//! Becoming the command: finding it as a shell would, and when the kernel refuses, finding out why.

use std::{
    ffi::CString,
    io::Read,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
};

use super::{error::SandboxError, inside, sys};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Replaces this process by the command of the step; returns only if that fails, with the reason.
///
/// The program is looked up in the container's `PATH` below `root`. The working directory and the user are the
/// command's own already.
pub(super) fn exec(root: &OwnedFd, args: &[String], env: &[(String, String)]) -> SandboxError {
    let Some(program) = args.first() else { return SandboxError::NotFound { program: String::new() } };
    let c_strings = |list: &mut dyn Iterator<Item = String>| list.map(CString::new).collect::<Result<Vec<_>, _>>();
    let (Ok(c_args), Ok(c_env)) = (
        c_strings(&mut args.iter().cloned()),
        c_strings(&mut env.iter().map(|(name, value)| format!("{name}={value}"))),
    ) else {
        return SandboxError::Exec { program: program.clone(), errno: libc::EINVAL };
    };
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
    let in_path = !program.contains('/');
    let candidates: Vec<String> = match in_path {
        true => path
            .split(':')
            .map(|dir| if dir.is_empty() { program.clone() } else { format!("{dir}/{program}") })
            .collect(),
        false => vec![program.clone()],
    };
    let mut refused = None;
    for candidate in candidates {
        let Ok(file) = CString::new(candidate.as_str()) else { continue };
        match try_exec(root, &candidate, &file, &c_args, &c_env) {
            Errno::NOENT | Errno::NOTDIR if find(root, &candidate).is_none() => (),
            errno => {
                refused = Some((candidate, errno));
                // Like a shell: what may not be executed does not hide what comes later in PATH.
                if errno != Errno::ACCESS {
                    break;
                }
            }
        }
    }
    match refused {
        Some((file, errno)) => explain(root, &file, errno),
        None if in_path => SandboxError::NotInPath { program: program.clone(), path: path.to_owned() },
        None => SandboxError::NotFound { program: program.clone() },
    }
}

fn try_exec(root: &OwnedFd, path: &str, file: &CString, args: &[CString], env: &[CString]) -> Errno {
    // A link into /proc may lead to our own program, which must never run in here as if it were the image's.
    match find(root, path) {
        Some(_) => sys::execve(file, args, env),
        None => Errno::NOENT,
    }
}

/// What the path leads to, seen from the working directory, which lies in the root.
fn find(root: &OwnedFd, path: &str) -> Option<OwnedFd> {
    if path.starts_with('/') {
        return inside::find(root.as_fd(), path).ok();
    }
    let how = rustix::fs::ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(rustix::fs::CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how).ok()
}

/// Looks into the file that could not be executed.
fn explain(root: &OwnedFd, file: &str, errno: Errno) -> SandboxError {
    let program = file.to_owned();
    let other = SandboxError::Exec { program: program.clone(), errno: errno.raw_os_error() };
    match errno {
        Errno::ACCESS | Errno::PERM | Errno::ISDIR => return SandboxError::NotExecutable { program },
        Errno::NOENT | Errno::NOEXEC | Errno::LIBBAD | Errno::INVAL | Errno::NOTDIR => (),
        _ => return other,
    }
    let Some(head) = head(file) else { return other };
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let interpreter = line.trim_matches([' ', '\t']).split([' ', '\t']).next().unwrap_or_default();
        return match errno {
            Errno::NOEXEC => match explain_elf(root, interpreter) {
                Some(error) => error,
                None => SandboxError::NotAProgram { program: interpreter.to_owned() },
            },
            _ => SandboxError::MissingInterpreter { program, interpreter: interpreter.to_owned() },
        };
    }
    match explain_elf(root, file) {
        Some(error) => error,
        None if errno == Errno::NOEXEC => SandboxError::NotAProgram { program },
        None => other,
    }
}

fn explain_elf(root: &OwnedFd, file: &str) -> Option<SandboxError> {
    let elf = Elf::parse(&head(file)?)?;
    let host = std::env::consts::ARCH;
    let program = file.to_owned();
    if !elf.runs_on(host) {
        let machine = elf.machine_name();
        return Some(SandboxError::WrongArchitecture { program, machine, host: host.to_owned() });
    }
    let interpreter = elf.interpreter?;
    let missing = find(root, &interpreter).is_none();
    missing.then_some(SandboxError::MissingInterpreter { program, interpreter })
}

/// The first bytes of a file.
fn head(path: &str) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat(rustix::fs::CWD, path, flags, Mode::empty()).ok()?;
    let mut head = Vec::new();
    std::fs::File::from(file).take(4096).read_to_end(&mut head).ok()?;
    Some(head)
}

/// What the head of an ELF file says.
#[derive(Debug, PartialEq, Eq)]
struct Elf {
    machine: u16,
    is_64: bool,
    interpreter: Option<String>,
}

impl Elf {
    fn parse(head: &[u8]) -> Option<Self> {
        let rest = head.strip_prefix(b"\x7fELF")?;
        let (is_64, little) = (*rest.first()? == 2, *rest.get(1)? != 2);
        let number = |at: usize, len: usize| -> Option<u64> {
            let bytes = head.get(at..at.checked_add(len)?)?;
            let fold = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
            Some(if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
        };
        let machine = u16::try_from(number(18, 2)?).ok()?;
        let (table, size, count, word) = match is_64 {
            true => (number(32, 8), number(54, 2), number(56, 2), 8),
            false => (number(28, 4), number(42, 2), number(44, 2), 4),
        };
        // Offset and length of the segment's content, within its entry.
        let (offset_at, len_at) = if is_64 { (8, 32) } else { (4, 16) };
        let interpreter = || -> Option<String> {
            let (table, size) = (usize::try_from(table?).ok()?, usize::try_from(size?).ok()?);
            for ix in 0..usize::try_from(count?).ok()? {
                let entry = table.checked_add(ix.checked_mul(size)?)?;
                if number(entry, 4)? == 3 {
                    let start = usize::try_from(number(entry.checked_add(offset_at)?, word)?).ok()?;
                    let len = usize::try_from(number(entry.checked_add(len_at)?, word)?).ok()?;
                    let text = head.get(start..start.checked_add(len)?)?;
                    return Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
                }
            }
            None
        };
        Some(Self { machine, is_64, interpreter: interpreter() })
    }

    fn machine_name(&self) -> String {
        match (self.machine, self.is_64) {
            (3, _) => "386".to_owned(),
            (8, _) => "mips".to_owned(),
            (20, _) => "ppc".to_owned(),
            (21, _) => "ppc64le".to_owned(),
            (22, _) => "s390x".to_owned(),
            (40, _) => "arm".to_owned(),
            (62, _) => "amd64".to_owned(),
            (183, _) => "arm64".to_owned(),
            (243, true) => "riscv64".to_owned(),
            (258, _) => "loong64".to_owned(),
            (other, _) => format!("machine {other}"),
        }
    }

    fn runs_on(&self, host: &str) -> bool {
        match host {
            "x86_64" => [3, 62].contains(&self.machine),
            "aarch64" => [40, 183].contains(&self.machine),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elf_heads_are_read_and_rubbish_is_not() {
        let mut head = vec![0; 200];
        head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        head[18] = 183;
        head[32] = 64; // program headers
        head[54] = 56;
        head[56] = 1;
        head[64] = 3; // PT_INTERP
        head[72] = 150;
        head[96] = 6;
        head[150..156].copy_from_slice(b"/ld.so");
        let elf = Elf::parse(&head).unwrap();
        assert_eq!(elf, Elf { machine: 183, is_64: true, interpreter: Some("/ld.so".to_owned()) });
        assert!(!elf.runs_on("x86_64"));
        assert_eq!(elf.machine_name(), "arm64");
        for len in 0..head.len() {
            let _no_panic = Elf::parse(&head[..len]);
        }
        head[32..40].fill(0xff);
        assert_eq!(Elf::parse(&head).unwrap().interpreter, None);
        assert_eq!(Elf::parse(b"#!/bin/sh"), None);
    }
}
