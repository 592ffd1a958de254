//! The definition of a check, which checks are enabled, and the violations that were found.
//!
//! Which rules are on comes from `# check=`, the build argument `BUILDKIT_DOCKERFILE_CHECK`, and comments directly above an
//! instruction (<https://docs.docker.com/reference/dockerfile/#check>).

use std::collections::{BTreeSet, HashSet};

use crate::{
    dockerfile::{instruction::ParsedDockerfile, lex, value},
    report::{Diagnostic, Span, Spanned, suggest},
};

/// The most names that a misspelt one is compared with, so that huge files take linear time.
pub(crate) const MAX_COMPARED: usize = 1000;

/// One rule.
#[derive(Debug)]
pub(crate) struct CheckRule {
    /// As users write it in `skip=`.
    pub(crate) name: &'static str,
    pub(crate) code: &'static str,
    /// Its page below <https://docs.docker.com/go/dockerfile/rule/>; `None` for a rule of our own.
    pub(crate) page: Option<&'static str>,
    /// Off unless asked for.
    pub(crate) experimental: bool,
    pub(super) check: Option<fn(&ParsedDockerfile, &mut CheckReport)>,
}

impl CheckRule {
    /// The address that explains the rule.
    pub(crate) fn url(&self) -> Option<String> {
        self.page.map(|page| format!("https://docs.docker.com/go/dockerfile/rule/{page}/"))
    }
}

/// A rule that a Dockerfile violates, and where.
#[derive(Clone, Debug)]
pub(crate) struct CheckFinding {
    pub(crate) rule: &'static CheckRule,
    /// What is wrong, without the name of the rule.
    pub(crate) detail: String,
    pub(crate) at: Span,
}

impl CheckFinding {
    /// The finding as a warning.
    pub(crate) fn diagnostic(&self) -> Diagnostic {
        let Self { rule, detail, at } = self;
        Diagnostic::warning(rule.code, format!("{}: {detail}", rule.name)).at(*at, rule.name)
    }

    /// The finding as a warning that names the page about its rule.
    pub(crate) fn explained(&self) -> Diagnostic {
        let help = self.rule.url().map(|url| format!("see {url}"));
        Diagnostic { help, ..self.diagnostic() }
    }
}

/// Which rules are enabled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CheckConfig {
    skip: CheckNames,
    pub(super) experimental: CheckNames,
    error: bool,
}

/// Names of rules, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CheckNames {
    pub(super) all: bool,
    some: Vec<String>,
}

impl CheckNames {
    fn read(value: &str) -> Self {
        if value.trim() == "all" {
            return Self { all: true, some: Vec::new() };
        }
        let some = value.split(',').filter_map(|it| it.split_whitespace().next()).map(str::to_owned).collect();
        Self { all: false, some }
    }

    /// Whether the list has this rule, by its name or by `all`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.all || self.some.iter().any(|it| it == name)
    }
}

impl CheckConfig {
    fn read(text: &str) -> Result<Self, String> {
        let mut config = Self::default();
        for part in text.split(';').map(str::trim).filter(|it| !it.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("check option has no `=`: {part}"))?;
            match key.trim() {
                "skip" => config.skip = CheckNames::read(value),
                "experimental" => config.experimental = CheckNames::read(value),
                "error" => {
                    let word = value.split_whitespace().next().unwrap_or_default();
                    config.error = value::boolean(word)
                        .ok_or_else(|| format!("check option `error` is true or false, not: {value}"))?;
                }
                key => return Err(format!("unknown check option, not one of skip, experimental, error: {key}")),
            }
        }
        Ok(config)
    }

    fn is_on(&self, rule: &CheckRule) -> bool {
        if rule.experimental { self.experimental.has(rule.name) } else { !self.skip.has(rule.name) }
    }
}

/// The violations of checks that were found, in order, each place once.
pub(crate) struct CheckReport {
    config: CheckConfig,
    fired: Vec<CheckFinding>,
    pub(super) seen: HashSet<(&'static str, Span, String)>,
    pub(super) names: BTreeSet<&'static str>,
}

impl CheckReport {
    /// An empty report with the check options of the build argument `BUILDKIT_DOCKERFILE_CHECK` or, without one, of the
    /// directive `# check=`.
    pub(crate) fn new(file: &ParsedDockerfile, argument: Option<&str>) -> Result<Self, Diagnostic> {
        let at = file.check.as_ref().map(|it| it.at);
        let text = argument.or(file.check.as_ref().map(|Spanned { value, .. }| value.as_str())).unwrap_or_default();
        let config = CheckConfig::read(text).map_err(|why| {
            let fault = Diagnostic::error("bake::dockerfile::bad_check_option", why);
            match at {
                Some(at) if argument.is_none() => fault.at(at, "in this directive"),
                _ => fault,
            }
        })?;
        Ok(Self { config, fired: Vec::new(), seen: HashSet::new(), names: BTreeSet::new() })
    }

    /// Records a violation, unless the rule is off for this instruction.
    pub(crate) fn fire(&mut self, rule: &'static CheckRule, comments: &[String], at: Span, detail: String) {
        let own = comments.iter().find_map(|line| match lex::key_value(line) {
            Some((key, value)) if key == "check" => CheckConfig::read(value).ok(),
            _ => None,
        });
        let on = match own {
            Some(own) if rule.experimental => self.config.is_on(rule) || own.is_on(rule),
            Some(own) => self.config.is_on(rule) && own.is_on(rule),
            None => self.config.is_on(rule),
        };
        if on && self.seen.insert((rule.name, at, detail.clone())) {
            self.names.insert(rule.name);
            self.fired.push(CheckFinding { rule, detail, at });
        }
    }

    /// The nearest known name. Not computed any more after many violations, because it is slow for huge files.
    pub(crate) fn near<'a>(&self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        if self.fired.len() < 50 { suggest::nearest(name, known.into_iter().take(MAX_COMPARED)) } else { None }
    }

    /// Whether the file declares that violations are errors, and there are some.
    pub(crate) fn is_failed(&self) -> bool {
        self.config.error && !self.names.is_empty()
    }

    /// Takes the violations, and the error that sums them up if the file declares that violations are errors.
    pub(crate) fn take(&mut self) -> (Vec<CheckFinding>, Option<Diagnostic>) {
        let is_failed = self.is_failed();
        let names = std::mem::take(&mut self.names);
        let error = is_failed.then(|| {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            Diagnostic::error("bake::check::failed", format!("checks failed and `error=true` is set: {names}"))
        });
        (std::mem::take(&mut self.fired), error)
    }
}
