//! Code quality reports of GitLab: the part of the Code Climate format that GitLab reads.
//!
//! Format: <https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format>. Each finding must have a path and a
//! line, so one that has none is put on the first line of [`NO_FILE`].

use serde_json::{Value, json};

use super::finding::{Finding, Findings};
use crate::report::Severity;

/// The path of a finding that is in no file.
const NO_FILE: &str = "docker-bake.hcl";

pub(super) fn write(findings: &Findings<'_>) -> String {
    let all = findings.all.iter().zip(&findings.fingerprints);
    let issues: Vec<Value> = all.map(|(finding, fingerprint)| issue(finding, &fingerprint.hex())).collect();
    format!("{:#}\n", Value::Array(issues))
}

fn issue(finding: &Finding, fingerprint: &str) -> Value {
    let severity = match finding.severity {
        Severity::Error => "major",
        Severity::Warning => "minor",
        Severity::Notice => "info",
    };
    let lines = finding
        .place
        .as_ref()
        .map_or_else(|| json!({"begin": 1}), |place| json!({"begin": place.line, "end": place.end_line}));
    json!({
        "type": "issue",
        "description": finding.text(),
        "check_name": finding.code,
        "fingerprint": fingerprint,
        "severity": severity,
        "categories": ["Bug Risk"],
        "location": {"path": finding.place.as_ref().map_or(NO_FILE, |place| &place.path), "lines": lines},
    })
}
