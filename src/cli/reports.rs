//! `--report`: which reports a command writes, and where to; on GitHub Actions also those that every job there can show.
//!
//! What is in them is made in `ui::report`. They are written when the command has ended, however it ended: also when it failed or
//! was interrupted.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Component, Path, PathBuf},
};

use super::{
    answer_file,
    args::ReportArgs,
    exit::{FAILED, OK, USAGE},
    settings::{self, Environment},
};
use crate::{
    report::{Diagnostic, Severity, SourceMap},
    spec::boolean,
    ui::{
        output,
        report::{self, ReportFormat, ReportPaths},
    },
};

/// As a format: none of the reports that a service gets without being asked.
const NONE: &str = "none";
/// Reports beside those of `--report`, separated by commas.
const VARIABLE: &str = "BAKE_REPORT";

/// Whether a command gets the reports of a CI service without asking for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReportDefaults {
    /// A build or a check.
    OfService,
    /// A command that shows something.
    Nothing,
}

/// The reports of a command.
struct Reports {
    wanted: Vec<WantedReport>,
    color: bool,
}

struct WantedReport {
    format: ReportFormat,
    to: ReportDest,
}

/// Where a report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ReportDest {
    Stdout,
    Stderr,
    File(PathBuf),
    /// The end of a file that others write to as well; nothing if there is nothing to tell.
    EndOf(PathBuf),
}

/// Runs a command and writes its reports; the exit code is that of the command, unless a report cannot be written.
pub(super) fn reporting(
    args: &ReportArgs,
    env: Environment,
    defaults: ReportDefaults,
    command: impl FnOnce(Environment) -> u8,
) -> u8 {
    let color = settings::color(&env);
    match wanted(&args.reports, &env, defaults) {
        Ok(wanted) if wanted.is_empty() => command(env),
        Ok(wanted) => {
            report::begin(paths(&env));
            let code = command(env);
            Reports { wanted, color }.write(code)
        }
        Err(faults) => {
            output::diagnostics(&faults, &SourceMap::default(), color);
            USAGE
        }
    }
}

impl Reports {
    fn write(&self, code: u8) -> u8 {
        let mut faults = Vec::new();
        for WantedReport { format, to } in &self.wanted {
            let Some(text) = report::text(*format) else { continue };
            let written = match to {
                ReportDest::Stdout => output::report(&text, output::PassedStream::Stdout),
                ReportDest::Stderr => output::report(&text, output::PassedStream::Stderr),
                ReportDest::File(path) => answer_file::write(path, &text),
                ReportDest::EndOf(_) if report::is_empty() => Ok(()),
                ReportDest::EndOf(path) => append(path, &text),
            };
            if let Err(error) = written {
                let name = match to {
                    ReportDest::Stdout => "standard output".to_owned(),
                    ReportDest::Stderr => "standard error".to_owned(),
                    ReportDest::File(path) | ReportDest::EndOf(path) => path.display().to_string(),
                };
                let message = format!("the report `{}` cannot be written: {name}", format.name());
                let fault = Diagnostic::error("bake::cli::report", message).cause(&error);
                // What nobody asked for makes nothing fail.
                let severity = if matches!(to, ReportDest::EndOf(_)) { Severity::Warning } else { fault.severity };
                faults.push(Diagnostic { severity, ..fault });
            }
        }
        output::diagnostics(&faults, &SourceMap::default(), self.color);
        if code == OK && faults.iter().any(Diagnostic::is_error) { FAILED } else { code }
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
}

/// The reports that the arguments, the variable and the service ask for.
fn wanted(
    arguments: &[String],
    env: &Environment,
    defaults: ReportDefaults,
) -> Result<Vec<WantedReport>, Vec<Diagnostic>> {
    let (mut all, mut faults, mut with_defaults) = (Vec::new(), Vec::new(), defaults == ReportDefaults::OfService);
    let listed = env.get(VARIABLE).map(String::as_str).unwrap_or_default();
    let listed = listed.split(',').map(str::trim).filter(|text| !text.is_empty()).map(|text| (VARIABLE, text));
    for (named_by, text) in arguments.iter().map(|text| ("--report", text.as_str())).chain(listed) {
        if text == NONE {
            with_defaults = false;
            continue;
        }
        match parse(text) {
            Ok(report) => {
                // As `x` and `./x` name one file.
                let names =
                    |path: &PathBuf| path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
                let is_same = |other: &WantedReport| match (&other.to, &report.to) {
                    (ReportDest::File(one), ReportDest::File(other)) => names(one) == names(other),
                    _ => false,
                };
                if all.iter().any(is_same) {
                    let message = format!("`{named_by}` names a file that has another report already: {text}");
                    faults
                        .push(Diagnostic::error("bake::cli::bad_report", message).help("give each a file of its own"));
                }
                all.push(report);
            }
            Err((why, help)) => {
                let fault = Diagnostic::error("bake::cli::bad_report", format!("`{named_by}` {why}: {text}"));
                faults.push(fault.help(help));
            }
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    if with_defaults {
        let of_service = of_service(env).filter(|report| all.iter().all(|given| given.format != report.format));
        let of_service: Vec<WantedReport> = of_service.collect();
        all.extend(of_service);
    }
    Ok(all)
}

/// Reads `FORMAT=FILE`.
fn parse(text: &str) -> Result<WantedReport, (&'static str, String)> {
    let (name, file) = text.split_once('=').unwrap_or((text, ""));
    let format = ReportFormat::parse(name).map_err(|help| ("knows no format", help))?;
    let to = match (file, format) {
        ("-", _) => ReportDest::Stdout,
        ("", ReportFormat::GitHub) => ReportDest::Stderr,
        ("", _) => return Err(("wants a file", format!("write {name}=FILE, or {name}=- for standard output"))),
        (path, _) => ReportDest::File(PathBuf::from(path)),
    };
    Ok(WantedReport { format, to })
}

/// What GitHub Actions shows of every job that tells it. The variables by which the public actions are told to leave that out
/// count here too.
fn of_service(env: &Environment) -> impl Iterator<Item = WantedReport> + use<> {
    let set = |name: &str| env.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let is_off = |name: &str| set(name).is_some_and(|text| boolean(text).is_ok_and(|on| !on));
    let is_github = set("GITHUB_ACTIONS") == Some("true");
    let annotations = is_github && !is_off("DOCKER_BUILD_CHECKS_ANNOTATIONS") && !output::tells_programs();
    let summary = set("GITHUB_STEP_SUMMARY").filter(|_| !is_off("DOCKER_BUILD_SUMMARY"));
    let annotations = annotations.then_some(WantedReport { format: ReportFormat::GitHub, to: ReportDest::Stderr });
    let summary =
        summary.map(|path| WantedReport { format: ReportFormat::Summary, to: ReportDest::EndOf(PathBuf::from(path)) });
    annotations.into_iter().chain(summary)
}

/// The root of the repository: what the service says, else the nearest folder with a `.git`, else the working directory.
fn paths(env: &Environment) -> ReportPaths {
    let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let named = ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"].into_iter().filter_map(|name| env.get(name));
    let named = named.filter_map(|path| Path::new(path).canonicalize().ok()).find(|root| cwd.starts_with(root));
    let found = || cwd.ancestors().find(|folder| folder.join(".git").exists()).map(Path::to_owned);
    let root = named.or_else(found).unwrap_or_else(|| cwd.clone());
    ReportPaths { cwd, root }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(arguments: &[&str], env: &[(&str, &str)]) -> Result<Vec<String>, Vec<String>> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let one = |it: &WantedReport| format!("{} {:?}", it.format.name(), it.to);
        let told = |faults: Vec<Diagnostic>| faults.into_iter().map(|fault| fault.message).collect();
        wanted(&arguments, &env, ReportDefaults::OfService).map(|all| all.iter().map(one).collect()).map_err(told)
    }

    #[test]
    fn reports_are_asked_for_by_flag_variable_and_service() {
        let service = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", "/s")];
        assert_eq!(shown(&[], &service).expect("good"), ["github Stderr", "summary EndOf(\"/s\")"]);
        assert_eq!(
            shown(&["sarif=a=b", "codequality=-", "github=g"], &service).expect("good"),
            ["sarif File(\"a=b\")", "gitlab Stdout", "github File(\"g\")", "summary EndOf(\"/s\")"]
        );
        assert_eq!(shown(&["none", "junit=j"], &service).expect("good"), ["junit File(\"j\")"]);
        assert_eq!(
            shown(&[], &[("BAKE_REPORT", "github, junit=j")]).expect("good"),
            ["github Stderr", "junit File(\"j\")"]
        );
        let off = [("DOCKER_BUILD_SUMMARY", "false"), ("DOCKER_BUILD_CHECKS_ANNOTATIONS", "0"), service[0], service[1]];
        assert!(shown(&[], &off).expect("good").is_empty());
    }

    #[test]
    fn faults_name_what_was_written() {
        let faults = shown(&["sarf=x", "sarif"], &[("BAKE_REPORT", "xml=y")]).expect_err("bad");
        let expected = [
            "`--report` knows no format: sarf=x",
            "`--report` wants a file: sarif",
            "`BAKE_REPORT` knows no format: xml=y",
        ];
        assert_eq!(faults, expected);
    }
}
