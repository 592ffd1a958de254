//! The one type in which an error or warning reaches the user: what is wrong, where, and what to type instead.

use std::{fmt, ops::Range, sync::Arc};

use indexmap::IndexSet;

use super::source::Span;

/// The severity of a diagnostic.
///
/// An error makes the command fail; a warning does so with `--strict`; a notice, which is about the machine rather than
/// about what is built, never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Severity {
    Notice,
    Warning,
    Error,
}

/// A place in a source, with a few words on what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) at: Span,
    pub(crate) text: String,
    /// The part of the text under the span that is meant, such as one element of a list when only the place of the list
    /// is known. It is underlined alone if it occurs there once.
    pub(crate) part: Option<String>,
}

impl Label {
    /// Where the part that is meant lies in the text under the span; `None` if all of it is meant, or the part does not occur
    /// there once.
    pub(crate) fn part_in(&self, text: &str) -> Option<Range<usize>> {
        let part = self.part.as_deref().filter(|part| !part.is_empty())?;
        // Quotes do not belong to what is named, but keep `a` from being found in `base`.
        [format!("\"{part}\""), format!("'{part}'"), part.to_owned()].into_iter().find_map(|quoted| {
            let mut all = text.match_indices(&quoted);
            let first = all.next()?.0;
            all.next().is_none().then(|| first..first + quoted.len())
        })
    }
}

/// An error or warning for the user.
///
/// Wording: lower case, no full stop, names in backticks, the value at the end after a colon. `message` says what is
/// wrong, labels where and what was seen, `help` what to type instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    /// `bake::<module>::<what>`, stable, listed in the docs.
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    /// The first label is the main place.
    pub(crate) labels: Vec<Label>,
    pub(crate) help: Option<String>,
    /// The causes, outermost first, in the words of the system or the server.
    pub(crate) causes: Vec<String>,
    /// Text to show as it is after the message: the last lines of a failed step's output.
    pub(crate) output: Option<String>,
    /// The targets that have the fault.
    pub(crate) targets: IndexSet<Arc<str>>,
    /// What the fault is about, if `message` names the target itself: those of several targets with one topic are alike.
    pub(crate) topic: Option<String>,
    /// The stage of the Dockerfile that has the fault.
    pub(crate) stage: Option<Arc<str>>,
}

impl Diagnostic {
    /// Makes an error without a place.
    pub(crate) fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            labels: Vec::new(),
            help: None,
            causes: Vec::new(),
            output: None,
            targets: IndexSet::new(),
            topic: None,
            stage: None,
        }
    }

    /// Makes a notice without a place.
    pub(crate) fn notice(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Notice, ..Self::error(code, message) }
    }

    /// Makes a warning without a place.
    pub(crate) fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Adds a place; the first one added is the main place.
    #[must_use]
    pub(crate) fn at(mut self, at: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { at, text: text.into(), part: None });
        self
    }

    /// Adds a place of which only the part with this text is meant.
    #[must_use]
    pub(crate) fn at_part(mut self, at: Span, part: &str, text: impl Into<String>) -> Self {
        self.labels.push(Label { at, text: text.into(), part: Some(part.to_owned()) });
        self
    }

    /// Adds targets that have the fault.
    #[must_use]
    pub(crate) fn of<T: Into<Arc<str>>>(mut self, targets: impl IntoIterator<Item = T>) -> Self {
        self.targets.extend(targets.into_iter().map(Into::into));
        self
    }

    /// Says what the fault is about, for a message that names its target.
    #[must_use]
    pub(crate) fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Sets the help: what to type instead.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds an error as the cause, with its own chain of sources.
    #[must_use]
    pub(crate) fn cause(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Whether it is an error: then the command fails.
    pub(crate) const fn is_error(&self) -> bool {
        matches!(self.severity, Severity::Error)
    }
}

/// The message alone, for a place where no excerpt can be shown.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}
