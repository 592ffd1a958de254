//! Faults of evaluation: how they travel from an expression to who asked, and where they are kept until they are shown.

use std::{cell::RefCell, collections::HashSet, sync::Arc};

use crate::report::{Diagnostic, Severity, Span};

/// Whose fault it is: the target or group of this name; none for what concerns all.
pub(crate) type FaultOwner = Option<Arc<str>>;

/// Why there is no value.
#[derive(Clone, Debug)]
pub(crate) enum Fail {
    /// Not told yet; at least one.
    Faults(Vec<Diagnostic>),
    /// Not told yet, and not for `try` to save: a cycle, a limit.
    Fatal(Box<Diagnostic>),
    /// The fault is of something that this refers to, and has been told there.
    Told(FaultOwner),
}

/// More faults than this in one expression are not worth reading.
const MAX_IN_ONE: usize = 20;
/// More faults than this are not shown.
const MAX_SHOWN: usize = 50;

impl Fail {
    pub(super) fn of(diagnostic: Diagnostic) -> Self {
        Self::Faults(vec![diagnostic])
    }

    /// Both, for parts of one expression that fail each for themselves.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (fatal @ Self::Fatal(_), _) | (_, fatal @ Self::Fatal(_)) => fatal,
            (Self::Faults(mut faults), Self::Faults(more)) => {
                faults.extend(more);
                faults.truncate(MAX_IN_ONE);
                Self::Faults(faults)
            }
            (faults @ Self::Faults(_), Self::Told(_)) | (Self::Told(_), faults) => faults,
        }
    }

    /// Adds the call through which the fault was reached; the outermost one is the main place.
    pub(super) fn seen_from(self, name: &str, at: Span) -> Self {
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

    /// What was said, for a fault that lies around this one.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Faults(faults) => faults.first().map(ToString::to_string),
            Self::Fatal(fault) => Some(fault.to_string()),
            Self::Told(_) => None,
        }
    }
}

/// Collects the results of parts that fail each for themselves.
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

/// All faults told so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    all: RefCell<Vec<(FaultOwner, Diagnostic)>>,
    /// Who failed because of whom.
    causes: RefCell<Vec<(FaultOwner, FaultOwner)>>,
}

impl Faults {
    pub(super) fn add(&self, owner: FaultOwner, diagnostic: Diagnostic) {
        self.all.borrow_mut().push((owner, diagnostic));
    }

    /// Notes why something of `owner` has no value.
    pub(super) fn settle(&self, owner: &FaultOwner, fail: Fail) {
        match fail {
            Fail::Faults(faults) => self.all.borrow_mut().extend(faults.into_iter().map(|it| (owner.clone(), it))),
            Fail::Fatal(fault) => self.add(owner.clone(), *fault),
            Fail::Told(cause) if cause == *owner => (),
            Fail::Told(cause) => self.causes.borrow_mut().push((owner.clone(), cause)),
        }
    }

    /// Faults that concern all or the needed, or what these failed because of; then those of all others. Each place once.
    pub(super) fn split(&self, is_needed: impl Fn(&str) -> bool) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let all = self.all.borrow();
        let because = self.because(&is_needed);
        let wanted = |owner: &FaultOwner| owner.as_deref().is_none_or(|it| is_needed(it) || because.contains(it));
        let mut seen = HashSet::new();
        let mut pick = |of_wanted: bool| {
            let mine = all.iter().filter(|(owner, _)| wanted(owner) == of_wanted).map(|(_, diagnostic)| diagnostic);
            shown(mine.filter(|it| is_new(it, &mut seen)))
        };
        let needed = pick(true);
        (needed, pick(false))
    }

    /// Who the needed failed because of.
    fn because(&self, is_needed: impl Fn(&str) -> bool) -> HashSet<Arc<str>> {
        let causes = self.causes.borrow();
        let mut because: HashSet<Arc<str>> = HashSet::new();
        loop {
            let before = because.len();
            // The one that failed last has failed because of earlier ones.
            for (owner, cause) in causes.iter().rev() {
                if let Some(cause) = cause
                    && owner.as_deref().is_none_or(|owner| is_needed(owner) || because.contains(owner))
                {
                    because.insert(cause.clone());
                }
            }
            if because.len() == before {
                return because;
            }
        }
    }
}

/// Not more faults than a reader can use, and how many more there are.
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

/// What a fault says and where: its code, its main place, its innermost place.
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
        faults.settle(&Some("c".into()), Fail::Told(Some("b".into())));
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
