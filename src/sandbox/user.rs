//! `USER`: names and numbers looked up in the image's own passwd and group. Text in, ids out; never the host's files.

use super::error::SandboxError;

/// The ids with which a command runs, and the home directory that belongs to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups; the primary one is the first of them.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// The largest id.
const MAX_ID: u32 = i32::MAX.cast_unsigned();

/// The user and primary group of USER as written, by the container's passwd and group files; `None` if a name is not there.
pub(crate) fn ids_of_user(user: &str, passwd: &[u8], group: &[u8]) -> Option<(u32, u32)> {
    resolve(user, passwd, group).ok().map(|ids| (ids.uid, ids.gid))
}

/// Resolves USER (`name`, `uid`, `name:group`, `uid:gid`, `:group`, or nothing) by the container's passwd and group
/// files.
pub(super) fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<Ids, SandboxError> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|it| !it.is_empty())),
        None => (user, None),
    };
    let entry = match (name, number(name)) {
        ("", _) => None,
        (_, Some(uid)) => users(passwd).find(|it| it.uid == uid),
        _ => users(passwd).find(|it| it.name == name.as_bytes()),
    };
    let uid = match (&entry, name, number(name)) {
        (_, _, Some(uid)) => uid,
        (_, "" | "root", _) => entry.as_ref().map_or(0, |it| it.uid),
        (Some(entry), ..) => entry.uid,
        (None, ..) => return Err(SandboxError::UserNotFound { user: name.to_owned() }),
    };
    let home = users(passwd).find(|it| it.uid == uid).map(|it| it.home).filter(|it| !it.is_empty());
    let home = home.map_or_else(|| "/".to_owned(), |it| String::from_utf8_lossy(it).into_owned());
    if let Some(group_name) = group_name {
        let gid = find_group(group_name, group)?;
        return Ok(Ids { uid, gid, groups: vec![gid], home });
    }
    let gid = entry.as_ref().map_or(0, |it| it.gid);
    // A number without a name is in no group; nothing at all means root.
    let member = match (name, &entry) {
        ("", _) if user.is_empty() => Some(&b"root"[..]),
        (_, Some(entry)) => Some(entry.name),
        _ => None,
    };
    let mut groups = vec![gid];
    for extra in member.into_iter().flat_map(|name| groups_of(group, name)) {
        if !groups.contains(&extra) {
            groups.push(extra);
        }
    }
    Ok(Ids { uid, gid, groups, home })
}

fn find_group(name: &str, group: &[u8]) -> Result<u32, SandboxError> {
    if let Some(gid) = number(name) {
        return Ok(gid);
    }
    let found = lines(group).find(|it| it.first() == Some(&name.as_bytes())).and_then(|it| id(it.get(2)));
    match (found, name) {
        (Some(gid), _) => Ok(gid),
        (None, "root") => Ok(0),
        (None, _) => Err(SandboxError::GroupNotFound { group: name.to_owned() }),
    }
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(passwd).filter_map(|line| {
        let home = line.get(5).copied().unwrap_or_default();
        Some(User { name: line.first()?, uid: id(line.get(2))?, gid: id(line.get(3))?, home })
    })
}

fn groups_of(group: &[u8], member: &[u8]) -> Vec<u32> {
    let lists =
        |line: &Vec<&[u8]>| line.get(3).is_some_and(|all| all.split(|byte| *byte == b',').any(|it| it == member));
    lines(group).filter(lists).filter_map(|it| id(it.get(2))).collect()
}

fn lines(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    text.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .map(|line| line.split(|byte| *byte == b':').collect())
}

fn id(field: Option<&&[u8]>) -> Option<u32> {
    number(std::str::from_utf8(field?).ok()?)
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|id| *id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n# no\napp:x:1000:1001:App:/home/app:/bin/sh\napp:x:7:7::/:\n\
                            bad:x:y:z\nhomeless:x:5:6::";
    const GROUP: &[u8] = b"root:x:0:root\nwheel:x:10:root,app\napp:x:1001:\naudio:x:18:app,other\nbroken\n";

    fn ids(user: &str) -> (u32, u32, Vec<u32>, String) {
        let ids = resolve(user, PASSWD, GROUP).unwrap();
        (ids.uid, ids.gid, ids.groups, ids.home)
    }

    #[test]
    fn each_form_of_user_resolves() {
        let home = |it: &str| it.to_owned();
        assert_eq!(ids(""), (0, 0, vec![0, 10], home("/root")));
        assert_eq!(ids("root"), (0, 0, vec![0, 10], home("/root")));
        assert_eq!(ids("1000:50"), (1000, 50, vec![50], home("/home/app")));
        assert_eq!(ids("root:root"), (0, 0, vec![0], home("/root")));
        assert_eq!(ids("app"), (1000, 1001, vec![1001, 10, 18], home("/home/app")));
        assert_eq!(ids("app:audio"), (1000, 18, vec![18], home("/home/app")));
        assert_eq!(ids("app:4"), (1000, 4, vec![4], home("/home/app")));
        assert_eq!(ids("1000"), (1000, 1001, vec![1001, 10, 18], home("/home/app")));
        assert_eq!(ids("4242"), (4242, 0, vec![0], home("/")));
        assert_eq!(ids(":wheel"), (0, 10, vec![10], home("/root")));
        assert_eq!(ids("homeless"), (5, 6, vec![6], home("/")));
    }

    #[test]
    fn root_needs_no_files() {
        let ids = resolve("", b"", b"").unwrap();
        assert_eq!(ids, Ids { uid: 0, gid: 0, groups: vec![0], home: "/".to_owned() });
        assert_eq!(resolve("root", b"", b"").unwrap(), ids);
    }

    #[test]
    fn unknown_names_are_named() {
        let user = SandboxError::UserNotFound { user: "nobody".to_owned() };
        assert_eq!(resolve("nobody", PASSWD, GROUP), Err(user));
        let group = SandboxError::GroupNotFound { group: "nogroup".to_owned() };
        assert_eq!(resolve("app:nogroup", PASSWD, GROUP), Err(group));
        assert!(resolve("4294967295", PASSWD, GROUP).is_err());
    }
}
