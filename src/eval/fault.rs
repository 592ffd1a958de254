//! Errors of evaluation: how they are returned from an expression, and the list where they are recorded by target.

use std::{cell::RefCell, collections::HashSet, sync::Arc};

use crate::report::{Diagnostic, Severity, Span};

/// The target or group that an error belongs to; `None` for the whole definition.
pub(crate) type FaultOwner = Option<Arc<str>>;

/// Why an expression has no value, and whether its errors are recorded already.
#[derive(Clone, Debug)]
pub(crate) enum Fail {
    /// Errors that are not recorded yet; at least one.
    Faults(Vec<Diagnostic>),
    /// An error that is not recorded yet and that `try` and `can` do not catch: a cycle, or a limit that was reached.
    Fatal(Box<Diagnostic>),
    /// Something that the expression refers to has failed; the error is already recorded, under this owner.
    Recorded(FaultOwner),
}

/// The most errors of one expression that are reported.
const MAX_IN_ONE: usize = 20;
/// The most errors that are reported in total.
const MAX_SHOWN: usize = 50;

impl Fail {
    /// The failure of one error that is not recorded yet.
    pub(super) fn of(diagnostic: Diagnostic) -> Self {
        Self::Faults(vec![diagnostic])
    }

    /// Combines the errors of two parts of one expression that failed independently.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (fatal @ Self::Fatal(_), _) | (_, fatal @ Self::Fatal(_)) => fatal,
            (Self::Faults(mut faults), Self::Faults(more)) => {
                faults.extend(more);
                faults.truncate(MAX_IN_ONE);
                Self::Faults(faults)
            }
            (faults @ Self::Faults(_), Self::Recorded(_)) | (Self::Recorded(_), faults) => faults,
        }
    }

    /// Adds the call in which the error occurred as a label; the outermost call becomes the main place.
    pub(super) fn with_call(self, name: &str, at: Span) -> Self {
        const MAX_LABELS: usize = 6;
        let add = |fault: &mut Diagnostic| {
            let call = crate::report::Label { at, text: format!("in this call of `{name}`"), part: None };
            fault.labels.insert(0, call);
            if fault.labels.len() > MAX_LABELS {
                fault.labels.remove(1);
            }
        };
        match self {
            Self::Faults(mut faults) => {
                faults.iter_mut().for_each(add);
                Self::Faults(faults)
            }
            other => other,
        }
    }

    /// The message of the failure, for the error of an enclosing construct; `None` if it is recorded already.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Faults(faults) => faults.first().map(ToString::to_string),
            Self::Fatal(fault) => Some(fault.to_string()),
            Self::Recorded(_) => None,
        }
    }
}

/// Collects the values of all parts, or the combined errors of those that failed.
pub(super) fn gather<T>(parts: impl Iterator<Item = Result<T, Fail>>, capacity: usize) -> Result<Vec<T>, Fail> {
    let mut values = Vec::with_capacity(capacity);
    let mut failed: Option<Fail> = None;
    for part in parts {
        match part {
            Ok(value) if failed.is_none() => values.push(value),
            Ok(_) => (),
            Err(fail) => failed = Some(failed.map_or(fail.clone(), |before| before.and(fail))),
        }
    }
    failed.map_or(Ok(values), Err)
}

/// All errors of a definition recorded so far, by the target or group that they belong to.
#[derive(Debug, Default)]
pub(super) struct Faults {
    all: RefCell<Vec<(FaultOwner, Diagnostic)>>,
    /// Pairs of owners: the first failed because of the second.
    causes: RefCell<Vec<(FaultOwner, FaultOwner)>>,
}

impl Faults {
    /// Records an error or warning under an owner.
    pub(super) fn add(&self, owner: FaultOwner, diagnostic: Diagnostic) {
        self.all.borrow_mut().push((owner, diagnostic));
    }

    /// Records why something of `owner` has no value.
    pub(super) fn record(&self, owner: &FaultOwner, fail: Fail) {
        match fail {
            Fail::Faults(faults) => self.all.borrow_mut().extend(faults.into_iter().map(|it| (owner.clone(), it))),
            Fail::Fatal(fault) => self.add(owner.clone(), *fault),
            Fail::Recorded(cause) if cause == *owner => (),
            Fail::Recorded(cause) => self.causes.borrow_mut().push((owner.clone(), cause)),
        }
    }

    /// Returns the errors of the whole definition, of needed targets and of the targets that made these fail; then
    /// those of all other targets. Each place is reported once.
    pub(super) fn split(&self, is_needed: impl Fn(&str) -> bool) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let all = self.all.borrow();
        let responsible = self.responsible(&is_needed);
        let wanted = |owner: &FaultOwner| owner.as_deref().is_none_or(|it| is_needed(it) || responsible.contains(it));
        let mut seen = HashSet::new();
        let mut pick = |of_wanted: bool| {
            let mine = all.iter().filter(|(owner, _)| wanted(owner) == of_wanted).map(|(_, diagnostic)| diagnostic);
            shown(mine.filter(|it| is_new(it, &mut seen)))
        };
        let needed = pick(true);
        (needed, pick(false))
    }

    /// The owners that made needed targets fail, directly or indirectly.
    fn responsible(&self, is_needed: impl Fn(&str) -> bool) -> HashSet<Arc<str>> {
        let causes = self.causes.borrow();
        let mut responsible: HashSet<Arc<str>> = HashSet::new();
        loop {
            let before = responsible.len();
            // Later failures depend on earlier ones, so one backward pass finds most of them.
            for (owner, cause) in causes.iter().rev() {
                if let Some(cause) = cause
                    && owner.as_deref().is_none_or(|owner| is_needed(owner) || responsible.contains(owner))
                {
                    responsible.insert(cause.clone());
                }
            }
            if responsible.len() == before {
                return responsible;
            }
        }
    }
}

/// The first [`MAX_SHOWN`] errors, and a last one that says how many more there are.
fn shown<'d>(all: impl Iterator<Item = &'d Diagnostic>) -> Vec<Diagnostic> {
    let mut shown: Vec<Diagnostic> = Vec::new();
    let mut hidden: Vec<Severity> = Vec::new();
    for diagnostic in all {
        if shown.len() < MAX_SHOWN {
            shown.push(diagnostic.clone());
        } else {
            hidden.push(diagnostic.severity);
        }
    }
    if let Some(severity) = hidden.iter().max() {
        let more = Diagnostic::error("bake::eval::more", format!("and {} more of these", hidden.len()));
        shown.push(Diagnostic { severity: *severity, ..more });
    }
    shown
}

/// Identifies an error for deduplication: its code, its main place, its innermost place.
type FaultKey = (&'static str, Span, Span);

fn is_new(fault: &Diagnostic, seen: &mut HashSet<FaultKey>) -> bool {
    match (fault.labels.first(), fault.labels.last()) {
        (Some(first), Some(last)) => seen.insert((fault.code, first.at, last.at)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SourceMap;

    fn fault(at: Span, text: &str) -> Diagnostic {
        Diagnostic::error("bake::eval::test", text).at(at, "here")
    }

    #[test]
    fn faults_of_what_is_not_needed_stay_hidden() {
        let source = SourceMap::default().add("x", "abc");
        let at = |n| Span { source, start: n, end: n + 1 };
        let faults = Faults::default();
        faults.add(Some("a".into()), fault(at(0), "of a"));
        faults.add(Some("b".into()), fault(at(1), "of b"));
        faults.add(None, fault(at(2), "of all"));
        faults.record(&Some("c".into()), Fail::Recorded(Some("b".into())));
        let texts = |name: &'static str| -> Vec<String> {
            faults.split(|it| it == name).0.iter().map(ToString::to_string).collect()
        };
        assert_eq!(texts("a"), ["of a", "of all"]);
        assert_eq!(texts("c"), ["of b", "of all"]);
        assert_eq!(texts("z"), ["of all"]);
        let (_, others) = faults.split(|it| it == "a");
        assert_eq!(others.iter().map(ToString::to_string).collect::<Vec<_>>(), ["of b"]);
    }

    #[test]
    fn a_place_is_told_once() {
        let source = SourceMap::default().add("x", "abc");
        let at = Span { source, start: 0, end: 1 };
        let faults = Faults::default();
        faults.add(Some("a-1".into()), fault(at, "first"));
        faults.add(Some("a-2".into()), fault(at, "second"));
        assert_eq!(faults.split(|_| true).0.len(), 1);
        assert_eq!(faults.split(|it| it == "a-2").0.len(), 1);
    }
}
