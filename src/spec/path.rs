//! Paths as text: of contexts and outputs on the host, and in images. Nothing is looked up on a disk.

/// Removes `.`, `..`, doubled and trailing slashes from a path by its text alone, as `path.Clean` of Go does
/// (<https://pkg.go.dev/path#Clean>). The empty path is `.`; links are not looked at.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => (),
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => (),
            other => parts.push(other),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_by_text() {
        for (path, expected) in [
            ("./src/../app/", "app"),
            ("", "."),
            ("/../a", "/a"),
            ("../../a", "../../a"),
            ("a//b/./c", "a/b/c"),
            ("a/..", "."),
            ("a//b/./c/", "a/b/c"),
            ("../a", "../a"),
            ("/", "/"),
        ] {
            assert_eq!(clean(path), expected);
        }
    }
}
