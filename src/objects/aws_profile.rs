//! The credentials file of AWS (`~/.aws/credentials`): keys of one profile. Nothing else of the shared configuration is read.
//!
//! <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>

use std::{collections::BTreeMap, path::PathBuf};

use crate::grant::read_file;

const LONGEST: u64 = 1 << 20;

/// The keys of the profile that the environment names, by their names as variables in lower case; empty if there is no such
/// file or profile.
pub(super) fn credentials(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let path = set("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let path = path.or_else(|| Some(PathBuf::from(set("HOME")?).join(".aws/credentials")));
    let text = path.and_then(|path| read_file(&path, LONGEST).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    let profile = set("AWS_PROFILE").or_else(|| set("AWS_DEFAULT_PROFILE")).map_or("default", String::as_str);
    of_profile(&text.unwrap_or_default(), profile)
}

fn of_profile(text: &str, profile: &str) -> BTreeMap<String, String> {
    const KEYS: &[&str] = &["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
    let mut found = BTreeMap::new();
    let mut is_mine = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_mine = name.trim() == profile;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_mine)
            && KEYS.contains(&key.trim())
        {
            found.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_one_profile_are_read() {
        let text = "# keys\n[default]\naws_access_key_id = a\nregion = eu\n[ci]\naws_access_key_id=b\naws_session_token = t=\n";
        let of = |profile| of_profile(text, profile).into_values().collect::<Vec<_>>();
        assert_eq!((of("default"), of("ci"), of("none")), (vec!["a".into()], vec!["b".into(), "t=".into()], vec![]));
    }
}
