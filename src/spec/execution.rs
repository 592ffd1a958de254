//! `--execution` and the attribute `release` of groups: when the results of a run become visible, and what a failure
//! stops.
//!
//! How each mode is carried out is decided in `dispatch`.

use super::fault::OptionFault;
use crate::report::suggest;

/// When the results of a run become visible, and what a failure stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ExecutionMode {
    /// Each output is written when its target has built; the first failure stops everything.
    #[default]
    FailFast,
    /// Nothing is visible until every target has built and every output is staged; then everything is.
    DeferOutput,
    /// What does not depend on a failure is finished; all failures are reported at the end.
    DeferError,
}

impl ExecutionMode {
    const MODES: [(&'static str, Self); 3] =
        [("fail-fast", Self::FailFast), ("defer-output", Self::DeferOutput), ("defer-error", Self::DeferError)];

    /// Parses the name of a mode.
    ///
    /// # Errors
    /// On anything else; the nearest mode is named.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        if let Some((_, mode)) = Self::MODES.iter().find(|(name, _)| *name == text) {
            return Ok(*mode);
        }
        let known = Self::MODES.map(|(name, _)| name);
        let help = suggest::did_you_mean(text, known).unwrap_or_else(|| format!("known: {}", known.join(", ")));
        Err(OptionFault::new(format!("not a mode of execution: {text}")).help(help))
    }

    /// The name on the command line and in the definition.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FailFast => "fail-fast",
            Self::DeferOutput => "defer-output",
            Self::DeferError => "defer-error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_corrected() {
        for (name, mode) in ExecutionMode::MODES {
            assert_eq!((ExecutionMode::parse(name), mode.name()), (Ok(mode), name));
        }
        let fault = ExecutionMode::parse("defer-outptu").expect_err("no such mode");
        assert_eq!(fault.message, "not a mode of execution: defer-outptu");
        assert!(fault.help.is_some_and(|help| help.contains("defer-output")));
    }
}
