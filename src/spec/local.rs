//! Options that outputs of type `local` alone have: what becomes of other files in the folder, and the modes and owner of
//! what is written.
//!
//! The folder itself is not looked at here.

use serde::{Deserialize, Serialize};

use super::options::OptionReader;
use crate::oci::ModeChange;

/// What happens to other files in the folder of a `local` output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalMode {
    Copy,
    Delete,
}

/// What a folder gets of files that give rights on this machine: device nodes, and regular files with the set-user-ID or
/// set-group-ID bit or with file capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpecialFiles {
    /// Devices are not made, files lose the bits and capabilities.
    Drop,
    Keep,
}

/// Modes and owner of what is written into a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalAccess {
    pub(crate) special: SpecialFiles,
    /// The option `chmod`, for all but symbolic links. Without it, modes are those of the result.
    pub(crate) chmod: Option<ModeChange>,
    /// The option `chown`. Without it, everything belongs to the user who runs the build.
    pub(crate) chown: Option<FileOwner>,
}

/// User and group of a file, by their numbers on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileOwner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl FileOwner {
    /// Parses `UID` or `UID:GID`; a missing group has the number of the user, as in `COPY --chown`.
    fn parse(text: &str) -> Option<Self> {
        // The highest number means "no change" to the kernel.
        let number = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        Some(Self { uid: number(uid)?, gid: number(gid)? })
    }
}

impl LocalMode {
    pub(super) fn read(options: &mut OptionReader<'_>) -> Self {
        const MODES: &[(&str, LocalMode)] = &[("copy", LocalMode::Copy), ("delete", LocalMode::Delete)];
        options.choice("mode", MODES, Self::Copy, "`mode` is neither copy nor delete")
    }
}

impl LocalAccess {
    pub(super) fn read(options: &mut OptionReader<'_>) -> Self {
        const SPECIAL: &[(&str, SpecialFiles)] = &[("drop", SpecialFiles::Drop), ("keep", SpecialFiles::Keep)];
        Self {
            special: options.choice("special", SPECIAL, SpecialFiles::Drop, "`special` is neither drop nor keep"),
            chmod: options.parsed("chmod", ModeChange::parse, "write octal digits, or a form such as u=rwX,go=rX"),
            chown: options.parsed("chown", FileOwner::parse, "write UID or UID:GID, in numbers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{OptionItem, Output};

    #[test]
    fn modes_and_owners_are_parsed() {
        let local = |text: &str| {
            let item = OptionItem::<Output>::parse(&format!("type=local,dest=x,{text}")).expect("well formed");
            let Output::Local(local) = item.value else { panic!("it is of type local") };
            (local.access, item.faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>())
        };
        let (access, faults) = local("chmod=0640,chown=1000");
        assert_eq!((access.chmod, faults), (Some(ModeChange::Octal(0o640)), vec![]));
        assert_eq!(access.chown, Some(FileOwner { uid: 1000, gid: 1000 }));
        assert_eq!(local("chown=0:5").0.chown, Some(FileOwner { uid: 0, gid: 5 }));
        assert_eq!(local("chmod=go-w").0.chmod, Some(ModeChange::Symbolic("go-w".to_owned())));
        assert_eq!(local("chmod=999").1, ["`chmod` cannot be: 999"]);
        for owner in ["root", "1:", "-1", "4294967295"] {
            assert_eq!(local(&format!("chown={owner}")).1, [format!("`chown` cannot be: {owner}")]);
        }
    }
}
