//! Small values of Compose files: paths, sizes, switches.

use crate::spec::{path, size};

/// Converts a path relative to `folder` to one relative to the working directory.
pub(super) fn join(folder: &str, path: &str, home: Option<&str>) -> String {
    match (path.strip_prefix('~'), home) {
        (Some(rest), Some(home)) => path::clean(&format!("{home}/{rest}")),
        _ if path.starts_with('/') => path.to_owned(),
        _ if folder.is_empty() => path::clean(path),
        _ => path::clean(&format!("{folder}/{path}")),
    }
}

/// The directory of a file's path, as text; empty for the working directory.
pub(super) fn folder(path: &str) -> String {
    match path.rfind('/') {
        Some(0) => "/".to_owned(),
        Some(at) => path::clean(&path[..at]),
        None => String::new(),
    }
}

/// Formats a size in the largest unit that represents it exactly with four digits; else in bytes.
pub(super) fn bytes_text(size: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let power = (0..6).rev().find(|power| size >= 1 << (10 * power)).unwrap_or(0);
    let value = size as f64 / (1u64 << (10 * power)) as f64;
    let places = if value >= 1000.0 {
        0
    } else if value >= 100.0 {
        1
    } else if value >= 10.0 {
        2
    } else {
        3
    };
    let text = format!("{value:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let shown = format!("{text}{}", UNITS[power]);
    if size::parse(&shown).ok() == Some(size) { shown } else { size.to_string() }
}

/// Parses a bool of Compose: those of command-line switches, and the words of YAML 1.1 (`yes`, `on`), in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match &*text.to_ascii_lowercase() {
        "y" | "yes" | "on" => Some(true),
        "n" | "no" | "off" => Some(false),
        other => switch(other),
    }
}

/// Parses a bool as command-line switches take it: `1 t true 0 f false` and their capitals.
pub(super) fn switch(text: &str) -> Option<bool> {
    crate::spec::boolean(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_joined() {
        for (folder, path, expected) in [
            ("", "./web", "web"),
            ("", ".", "."),
            ("", "../x/", "../x"),
            ("sub", "./x", "sub/x"),
            ("sub", ".", "sub"),
            ("sub", "../y", "y"),
            ("sub", "/abs//x", "/abs//x"),
        ] {
            assert_eq!(join(folder, path, None), expected);
        }
        assert_eq!(join("sub", "~/k", Some("/home/me")), "/home/me/k");
        assert_eq!(
            (folder_of("a/b.yml"), folder_of("b.yml"), folder_of("/b.yml")),
            ("a".into(), String::new(), "/".into())
        );
    }

    fn folder_of(path: &str) -> String {
        folder(path)
    }

    #[test]
    fn sizes_are_read_and_shown_without_loss() {
        for (text, size, shown) in [
            ("64m", 64 << 20, "64MiB"),
            ("1.5g", 3 << 29, "1.5GiB"),
            ("1024", 1024, "1KiB"),
            ("100000", 100_000, "100000"),
            ("2 KiB", 2048, "2KiB"),
            ("0", 0, "0B"),
        ] {
            assert_eq!(size::parse(text).ok(), Some(size), "{text}");
            assert_eq!(bytes_text(size), shown);
        }
    }
}
