//! Small values of Compose files: paths, sizes, switches.

/// Converts a path relative to `folder` to one relative to the working directory.
pub(super) fn join(folder: &str, path: &str, home: Option<&str>) -> String {
    match (path.strip_prefix('~'), home) {
        (Some(rest), Some(home)) => clean(&format!("{home}/{rest}")),
        _ if path.starts_with('/') => path.to_owned(),
        _ if folder.is_empty() => clean(path),
        _ => clean(&format!("{folder}/{path}")),
    }
}

/// The folder that a file lies in; empty for the working directory.
pub(super) fn folder(path: &str) -> String {
    match path.rfind('/') {
        Some(0) => "/".to_owned(),
        Some(at) => clean(&path[..at]),
        None => String::new(),
    }
}

/// Removes `.`, `..` and doubled slashes from a path as text, without looking at the disk.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => (),
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => (),
            _ => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Parses a size such as `64m`, `1.5 GiB`, `1024`, in bytes (Compose specification, specifying byte values:
/// <https://github.com/compose-spec/compose-spec/blob/main/11-extension.md#specifying-byte-values>).
pub(super) fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let number_end = lower.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(number_end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    let factor = 1u64 << (10 * power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value = number.parse::<f64>().ok()? * factor as f64;
    (value < 1e18).then_some(value as u64)
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
    if bytes(&shown) == Some(size) { shown } else { size.to_string() }
}

/// The bools of Compose: those of command-line switches, and the words of old YAML, in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match &*text.to_ascii_lowercase() {
        "y" | "yes" | "on" => Some(true),
        "n" | "no" | "off" => Some(false),
        other => switch(other),
    }
}

/// The bools of command-line switches: `1 t true 0 f false` and their capitals.
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
            assert_eq!(bytes(text), Some(size), "{text}");
            assert_eq!(bytes_text(size), shown);
        }
        for text in ["", "m", "-1", "1x", "1..2", "99999999999999999999"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
