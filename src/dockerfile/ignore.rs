//! Ignore files: parses the text of a `.dockerignore` to cleaned patterns
//! (<https://docs.docker.com/build/concepts/context/#dockerignore-files>). They are matched by
//! [`graph::pattern`](crate::graph::pattern); the file itself is found and read by the engine.

use crate::{
    report::{Diagnostic, SourceId, Span},
    spec::pattern::Patterns,
};

/// Parses a `.dockerignore` file: its patterns in order, cleaned, exceptions with their `!`
/// (<https://docs.docker.com/build/concepts/context/#dockerignore-files>).
///
/// All malformed patterns are reported and left out.
pub(crate) fn parse_ignore(source: SourceId, text: &str) -> (Vec<String>, Vec<Diagnostic>) {
    let mut patterns = Vec::new();
    let mut faults = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let is_first = start == 0;
        start += line.len();
        let line = if is_first { line.trim_start_matches('\u{feff}') } else { line };
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let pattern = cleaned(line.trim());
        match Patterns::new(&[&pattern]) {
            Ok(_) => patterns.push(pattern),
            Err(fault) => {
                let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
                let at = start - line.len();
                let span = Span { source, start: offset(at), end: offset(at + line.trim_end().len()) };
                let message = format!("malformed ignore pattern: {}", line.trim());
                faults.push(Diagnostic::error("bake::dockerfile::bad_ignore_pattern", message).at(span, fault.why));
            }
        }
    }
    (patterns, faults)
}

fn cleaned(line: &str) -> String {
    let (mark, body) = match line.strip_prefix('!') {
        Some(body) => ("!", body.trim()),
        None => ("", line),
    };
    if body.is_empty() {
        return mark.to_owned();
    }
    let clean = crate::spec::path::clean(body);
    let clean = if clean.len() > 1 { clean.strip_prefix('/').unwrap_or(&clean) } else { &clean };
    format!("{mark}{clean}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SourceMap;

    fn check(text: &str) -> String {
        let mut map = SourceMap::default();
        let source = map.add(".dockerignore", text);
        let (patterns, faults) = parse_ignore(source, text);
        let faults = faults.iter().map(|it| format!("{} at {}", it.message, map.place(it.labels[0].at)));
        patterns.into_iter().chain(faults).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn a_malformed_pattern_is_pointed_at_behind_a_byte_order_mark() {
        let mut map = SourceMap::default();
        let source = map.add(".dockerignore", "\u{feff}!\n");
        let (_, faults) = parse_ignore(source, "\u{feff}!\n");
        assert_eq!(map.text(faults[0].labels[0].at), "!");
    }

    #[test]
    fn ignore_files_are_cleaned() {
        assert_eq!(check("\u{feff}a\n# c\n #d\n\n/b/\n ./c \n! /x/y\n../z\n"), "a|#d|b|c|!x/y|../z");
        assert_eq!(check("a\r\n!b\r\n/"), "a|!b|/");
        assert_eq!(
            check("ok\n!\n[a\n"),
            "ok|malformed ignore pattern: ! at .dockerignore:2|malformed ignore pattern: [a at .dockerignore:3"
        );
    }
}
