//! Build checks: one file per rule, and [`RULES`], the list of them (spec/dockerfile.md §18).
//!
//! A rule over the text alone has a `check` that [`run_static`] calls; the others are fired by `lower` where it meets the
//! fault. Which rules are on comes from `# check=`, the build argument `BUILDKIT_DOCKERFILE_CHECK`, and comments directly
//! above an instruction.

use std::collections::{BTreeSet, HashSet};

use super::{ParsedDockerfile, lex};
use crate::report::{Diagnostic, Span, Spanned, suggest};

pub(super) mod consistent_instruction_casing;
pub(super) mod copy_ignored_file;
pub(super) mod duplicate_stage_name;
pub(super) mod expose_invalid_format;
pub(super) mod expose_proto_casing;
pub(super) mod from_as_casing;
pub(super) mod from_platform_flag_const_disallowed;
pub(super) mod invalid_base_image_platform;
pub(super) mod invalid_default_arg_in_from;
pub(super) mod invalid_definition_description;
pub(super) mod json_args_recommended;
pub(super) mod legacy_key_value_format;
pub(super) mod maintainer_deprecated;
pub(super) mod malformed_json_array;
pub(super) mod multiple_instructions_disallowed;
pub(super) mod no_empty_continuation;
pub(super) mod redundant_target_platform;
pub(super) mod reserved_stage_name;
pub(super) mod secrets_used_in_arg_or_env;
pub(super) mod stage_name_casing;
pub(super) mod undefined_arg_in_from;
pub(super) mod undefined_var;
pub(super) mod workdir_relative_path;

/// With how many names a misspelt one is compared, so that huge files take linear time.
pub(super) const MAX_COMPARED: usize = 1000;

/// One rule.
pub(crate) struct CheckRule {
    /// As users write it in `skip=`.
    pub(crate) name: &'static str,
    pub(crate) code: &'static str,
    /// Off unless asked for.
    pub(crate) experimental: bool,
    check: Option<fn(&ParsedDockerfile, &mut CheckReport)>,
}

/// All rules.
pub(crate) static RULES: &[&CheckRule] = &[
    &consistent_instruction_casing::RULE,
    &copy_ignored_file::RULE,
    &duplicate_stage_name::RULE,
    &expose_invalid_format::RULE,
    &expose_proto_casing::RULE,
    &from_as_casing::RULE,
    &from_platform_flag_const_disallowed::RULE,
    &invalid_base_image_platform::RULE,
    &invalid_default_arg_in_from::RULE,
    &invalid_definition_description::RULE,
    &json_args_recommended::RULE,
    &legacy_key_value_format::RULE,
    &maintainer_deprecated::RULE,
    &malformed_json_array::RULE,
    &multiple_instructions_disallowed::RULE,
    &no_empty_continuation::RULE,
    &redundant_target_platform::RULE,
    &reserved_stage_name::RULE,
    &secrets_used_in_arg_or_env::RULE,
    &stage_name_casing::RULE,
    &undefined_arg_in_from::RULE,
    &undefined_var::RULE,
    &workdir_relative_path::RULE,
];

/// Which rules are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CheckConfig {
    skip: CheckNames,
    experimental: CheckNames,
    error: bool,
}

/// Names of rules, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CheckNames {
    all: bool,
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

    fn has(&self, name: &str) -> bool {
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
                    config.error = super::value::boolean(word)
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

/// The checks that fired, in the order of discovery, each place once.
pub(super) struct CheckReport {
    config: CheckConfig,
    fired: Vec<Diagnostic>,
    seen: HashSet<(&'static str, Span, String)>,
    names: BTreeSet<&'static str>,
}

impl CheckReport {
    /// With the options of the build argument or, without one, of the file.
    pub(super) fn new(file: &ParsedDockerfile, argument: Option<&str>) -> Result<Self, Diagnostic> {
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
    pub(super) fn fire(&mut self, rule: &CheckRule, comments: &[String], at: Span, message: String) {
        let own = comments.iter().find_map(|line| match lex::key_value(line) {
            Some((key, value)) if key == "check" => CheckConfig::read(value).ok(),
            _ => None,
        });
        let on = match own {
            Some(own) if rule.experimental => self.config.is_on(rule) || own.is_on(rule),
            Some(own) => self.config.is_on(rule) && own.is_on(rule),
            None => self.config.is_on(rule),
        };
        let message = format!("{}: {message}", rule.name);
        if on && self.seen.insert((rule.name, at, message.clone())) {
            self.names.insert(rule.name);
            self.fired.push(Diagnostic::warning(rule.code, message).at(at, rule.name));
        }
    }

    /// The nearest known name, while few checks have fired: more than that nobody reads.
    fn near<'a>(&self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        if self.fired.len() < 50 { suggest::nearest(name, known.into_iter().take(MAX_COMPARED)) } else { None }
    }

    /// Takes what fired, and the error if the file wants violations to be errors.
    pub(super) fn take(&mut self) -> (Vec<Diagnostic>, Option<Diagnostic>) {
        let names = std::mem::take(&mut self.names);
        let error = (self.config.error && !names.is_empty()).then(|| {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            Diagnostic::error("bake::check::failed", format!("checks failed and `error=true` is set: {names}"))
        });
        (std::mem::take(&mut self.fired), error)
    }
}

/// Runs the rules that need the text alone.
pub(super) fn run_static(file: &ParsedDockerfile, report: &mut CheckReport) {
    for check in RULES.iter().filter_map(|rule| rule.check) {
        check(file, report);
    }
}
