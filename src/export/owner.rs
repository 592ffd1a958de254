//! The owner that `chown` of an output names, as this process has to say it: in a user namespace ids have other numbers.

use std::fs;

use crate::spec::local::FileOwner;

/// The owner as the user namespace of this process counts; `None` if it has no number there, so that files cannot be given
/// to it.
pub(super) fn in_namespace(owner: FileOwner) -> Option<FileOwner> {
    let number = |map: &str, id: u32| {
        let text = fs::read_to_string(format!("/proc/self/{map}")).unwrap_or_default();
        inside(&text, id)
    };
    Some(FileOwner { uid: number("uid_map", owner.uid)?, gid: number("gid_map", owner.gid)? })
}

/// Looks an id of the machine up in a map of ids (user_namespaces(7)): lines of the first id inside, the first outside, and
/// how many.
fn inside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let (first, outside, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
        let offset = id.checked_sub(outside).filter(|offset| *offset < count)?;
        first.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_machine() {
        let all = "         0          0 4294967295\n";
        assert_eq!((inside(all, 0), inside(all, 1000)), (Some(0), Some(1000)));
        let subordinate = "0 1000 1\n1 100000 65536\n";
        let found = [1000, 0, 100_000, 165_535, 165_536].map(|id| inside(subordinate, id));
        assert_eq!(found, [Some(0), None, Some(1), Some(65536), None]);
    }
}
