//! Annotations of GitHub Actions: workflow commands, one line each, which a runner turns into marks beside the code.
//!
//! Format: <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>, "Setting a debug message",
//! "… an error message". Escaping as the toolkit for actions does it (`packages/core/src/command.ts`): `%`, CR and LF
//! everywhere, `:` and `,` in properties.

use super::finding::{Finding, Findings};
use crate::report::Severity;

/// Writes one command for each finding, errors first: a runner shows the first ten of each kind.
pub(super) fn write(findings: &Findings<'_>) -> String {
    findings.all.iter().map(|finding| command(finding)).collect()
}

fn command(finding: &Finding) -> String {
    let word = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Notice => "notice",
    };
    let mut properties: Vec<(&str, String)> = Vec::new();
    if let Some(place) = &finding.place {
        properties.push(("file", place.path.clone()));
        properties.push(("line", place.line.to_string()));
        // Columns mean something only where a place is on one line.
        if place.line == place.end_line {
            properties.push(("col", place.column.to_string()));
        }
        properties.push(("endLine", place.end_line.to_string()));
        if place.line == place.end_line {
            properties.push(("endColumn", place.end_column.saturating_sub(1).max(place.column).to_string()));
        }
    }
    properties.push(("title", finding.code.to_owned()));
    let properties: Vec<String> =
        properties.into_iter().map(|(name, value)| format!("{name}={}", property(&value))).collect();
    format!("::{word} {}::{}\n", properties.join(","), data(&finding.text()))
}

/// Escapes the text of a command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes the value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn what_would_end_a_command_is_escaped() {
        assert_eq!(data("50%\r\n: ,"), "50%25%0D%0A: ,");
        assert_eq!(property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
    }
}
