//! The table of report formats.

use std::fmt::Write as _;

use super::{finding::Findings, github, gitlab, junit, sarif, summary};
use crate::report::suggest;

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReportFormat {
    GitHub,
    GitLab,
    JUnit,
    Sarif,
    Summary,
}

/// One row of the table.
struct FormatRow {
    format: ReportFormat,
    /// As users write it; the first name is the one that messages use.
    names: &'static [&'static str],
    write: fn(&Findings<'_>) -> String,
}

/// All formats, in the order of their names.
const FORMATS: [FormatRow; 5] = [
    FormatRow { format: ReportFormat::GitHub, names: &["github"], write: github::write },
    FormatRow { format: ReportFormat::GitLab, names: &["gitlab", "codequality"], write: gitlab::write },
    FormatRow { format: ReportFormat::JUnit, names: &["junit"], write: junit::write },
    FormatRow { format: ReportFormat::Sarif, names: &["sarif"], write: sarif::write },
    FormatRow { format: ReportFormat::Summary, names: &["summary"], write: summary::write },
];

impl ReportFormat {
    /// The format of this name.
    ///
    /// # Errors
    /// What to write instead: the nearest name, or all of them.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let found = FORMATS.iter().find(|row| row.names.contains(&name));
        found.map(|row| row.format).ok_or_else(|| {
            let known = FORMATS.iter().flat_map(|row| row.names).copied();
            suggest::did_you_mean(name, known).unwrap_or_else(|| format!("known: {}", Self::known()))
        })
    }

    /// The names of all formats: `github, gitlab, …`.
    fn known() -> String {
        let mut text = String::new();
        for row in &FORMATS {
            let comma = if text.is_empty() { "" } else { ", " };
            write!(text, "{comma}{}", row.names[0]).expect("a string takes all");
        }
        text
    }

    /// As users write it.
    pub(crate) fn name(self) -> &'static str {
        self.row().names[0]
    }

    /// The report, as text.
    pub(super) fn write(self, findings: &Findings<'_>) -> String {
        (self.row().write)(findings)
    }

    fn row(self) -> &'static FormatRow {
        FORMATS.iter().find(|row| row.format == self).expect("the table has all formats")
    }
}
