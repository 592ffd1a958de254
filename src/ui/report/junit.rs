//! JUnit XML, as CI services read it: a test suite for the run, a test case for each target and platform.
//!
//! There is no standard; this is the form of the schema that Jenkins publishes (`junit-10.xsd` of its xUnit plugin). Characters
//! that XML 1.0 (section 2.2) does not have are replaced.

use std::{fmt::Write as _, time::Duration};

use super::finding::{Finding, Findings, shown};
use crate::report::{
    Diagnostic,
    result::{BuildResult, ResultEnd, TargetResult},
};

/// One test case.
struct TestCase {
    class: String,
    name: String,
    took: Duration,
    result: TestResult,
}

enum TestResult {
    Passed,
    Skipped,
    Failed { message: String, kind: &'static str, text: String },
}

pub(super) fn write(findings: &Findings<'_>) -> String {
    let cases: Vec<TestCase> = findings
        .builds()
        .map(|(target, build)| case(target, build))
        .chain(findings.other_errors().map(other))
        .collect();
    let count = |is: fn(&TestResult) -> bool| cases.iter().filter(|case| is(&case.result)).count();
    let failures = count(|result| matches!(result, TestResult::Failed { .. }));
    let skipped = count(|result| matches!(result, TestResult::Skipped));
    let counts = format!(
        "name=\"bake\" tests=\"{}\" failures=\"{failures}\" errors=\"0\"{{}} time=\"{}\"",
        cases.len(),
        seconds(findings.took)
    );
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let line = |text: &mut String, args: std::fmt::Arguments<'_>| {
        text.write_fmt(args).expect("a string takes all");
        text.push('\n');
    };
    line(&mut text, format_args!("<testsuites {}>", counts.replace("{}", "")));
    line(&mut text, format_args!("  <testsuite {}>", counts.replace("{}", &format!(" skipped=\"{skipped}\""))));
    for TestCase { class, name, took, result } in &cases {
        let head = format!(
            "<testcase classname=\"{}\" name=\"{}\" time=\"{}\"",
            attribute(class),
            attribute(name),
            seconds(*took)
        );
        match result {
            TestResult::Passed => line(&mut text, format_args!("    {head}/>")),
            TestResult::Skipped => line(&mut text, format_args!("    {head}><skipped/></testcase>")),
            TestResult::Failed { message, kind, text: body } => line(
                &mut text,
                format_args!(
                    "    {head}><failure message=\"{}\" type=\"{kind}\">{}</failure></testcase>",
                    attribute(message),
                    content(body)
                ),
            ),
        }
    }
    text + "  </testsuite>\n</testsuites>\n"
}

/// The case of a build. An output that failed is a failure of all builds that it was made of.
fn case(target: &TargetResult, build: &BuildResult) -> TestCase {
    let outputs = target.outputs.iter().map(|output| &output.end);
    let of_output = outputs.clone().find(|end| matches!(end, ResultEnd::Failed(_)));
    let result = match (&build.end, of_output) {
        (ResultEnd::Failed(fault), _) | (ResultEnd::Done | ResultEnd::Cached, Some(ResultEnd::Failed(fault))) => {
            failed(fault)
        }
        (ResultEnd::NotRun, _) => TestResult::Skipped,
        (ResultEnd::Done | ResultEnd::Cached, _) => TestResult::Passed,
    };
    TestCase { class: shown(&target.name), name: build.platform.clone(), took: build.took, result }
}

fn failed(fault: &Diagnostic) -> TestResult {
    let mut text = shown(&fault.to_string());
    for more in fault.help.iter().map(|help| format!("help: {help}")).chain(fault.output.clone()) {
        text.extend(["\n", &shown(&more)]);
    }
    TestResult::Failed { message: shown(&fault.to_string()), kind: fault.code, text }
}

/// An error that is not that of a build: of the definition, or of the machine.
fn other(finding: &Finding) -> TestCase {
    let place = finding.place.as_ref().map(|place| format!("{}:{}", place.path, place.line));
    let mut text = finding.text();
    text.extend(finding.output.iter().flat_map(|output| ["\n", output]));
    TestCase {
        class: "bake".to_owned(),
        name: place.or_else(|| finding.elsewhere.clone()).unwrap_or_else(|| finding.code.to_owned()),
        took: Duration::ZERO,
        result: TestResult::Failed { message: finding.message.clone(), kind: finding.code, text },
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.3}", took.as_secs_f64())
}

/// Escapes text between tags.
fn content(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => escaped.push(c),
            _ => escaped.push('\u{fffd}'),
        }
    }
    escaped
}

/// Escapes the value of an attribute: line breaks stay what they are.
fn attribute(text: &str) -> String {
    content(text).replace('\n', "&#10;").replace('\t', "&#9;")
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn what_xml_does_not_have_is_replaced() {
        assert_eq!(content("a<&>\"\u{0}\u{1b}[0m\u{fffe}ü\n"), "a&lt;&amp;&gt;&quot;\u{fffd}\u{fffd}[0m\u{fffd}ü\n");
        assert_eq!(attribute("a\nb\t\r"), "a&#10;b&#9;\u{fffd}");
    }
}
