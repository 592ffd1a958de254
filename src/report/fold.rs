//! Equal diagnostics folded into one: a fault that many targets share is told once, with their names and the further places.
//!
//! Equal means: the same code, severity, message, help and causes; of messages that name their target the same topic. Errors
//! are folded at one place only, because each place has to be mended; equal warnings wherever they are, and those with one
//! topic where they are many. How a folded diagnostic looks is not decided here.

use std::collections::HashMap;

use indexmap::IndexSet;

use super::{
    diagnostic::{Diagnostic, Severity},
    source::Span,
};

/// A diagnostic that stands for itself and for those that are equal to it.
#[derive(Debug)]
pub(crate) struct FoldedDiagnostic<'a> {
    pub(crate) first: &'a Diagnostic,
    /// The targets of all of them, in the order in which they came.
    pub(crate) targets: IndexSet<&'a str>,
    /// The main places of the others, each once.
    pub(crate) more: IndexSet<Span>,
}

/// Alike warnings of different targets, each with a value of its own, are each shown up to this number.
const FEW: usize = 4;

/// What equal diagnostics have in common: code, severity, message or topic, help, causes, place.
type FoldKey<'a> = (Severity, &'static str, &'a str, Option<&'a str>, &'a [String], Option<Span>);

fn key<'a>(it: &'a Diagnostic, at: Option<Span>) -> FoldKey<'a> {
    (it.severity, it.code, it.topic.as_deref().unwrap_or(&it.message), it.help.as_deref(), &it.causes, at)
}

/// Folds diagnostics; the first of each kind keeps its position.
///
/// Two of one target with different messages are never folded. Neither are those that have output, or further labels.
pub(crate) fn fold<'a>(all: impl IntoIterator<Item = &'a Diagnostic>) -> Vec<FoldedDiagnostic<'a>> {
    let one = |first: &'a Diagnostic| FoldedDiagnostic {
        first,
        targets: first.targets.iter().map(|name| &**name).collect(),
        more: IndexSet::new(),
    };
    let is_equal_anywhere = |it: &Diagnostic| !it.is_error() && it.topic.is_none();
    let folded = merge(all.into_iter().map(one), |it| {
        let place = it.labels.first().map(|label| label.at);
        key(it, place.filter(|_| !is_equal_anywhere(it)))
    });
    let mut n_alike: HashMap<FoldKey<'a>, usize> = HashMap::new();
    for it in &folded {
        *n_alike.entry(key(it.first, None)).or_default() += 1;
    }
    merge(folded.into_iter(), |it| {
        let is_one_of_many = !it.is_error() && n_alike[&key(it, None)] > FEW;
        key(it, it.labels.first().map(|label| label.at).filter(|_| !is_one_of_many && !is_equal_anywhere(it)))
    })
}

/// Merges what has the same key.
fn merge<'a>(
    all: impl Iterator<Item = FoldedDiagnostic<'a>>,
    key: impl Fn(&'a Diagnostic) -> FoldKey<'a>,
) -> Vec<FoldedDiagnostic<'a>> {
    let mut merged: Vec<FoldedDiagnostic<'a>> = Vec::new();
    let mut groups: HashMap<FoldKey<'a>, Vec<usize>> = HashMap::new();
    for next in all {
        if next.first.output.is_some() || next.first.labels.len() > 1 {
            merged.push(next);
            continue;
        }
        let group = groups.entry(key(next.first)).or_default();
        let fits = |ix: &&usize| {
            let it = &merged[**ix];
            it.first.message == next.first.message || !next.targets.iter().any(|name| it.targets.contains(*name))
        };
        let Some(ix) = group.iter().find(fits) else {
            group.push(merged.len());
            merged.push(next);
            continue;
        };
        let it = &mut merged[*ix];
        let at = |it: &Diagnostic| it.labels.first().map(|label| label.at);
        let main = at(it.first);
        it.targets.extend(next.targets);
        it.more.extend(at(next.first).into_iter().chain(next.more).filter(|place| Some(*place) != main));
    }
    merged
}

/// Lists the first names of many: `a, b, c and 97 more`.
pub(crate) fn some_of<T: AsRef<str>>(names: impl ExactSizeIterator<Item = T>) -> String {
    /// One name more is shown rather than counted.
    const MOST: usize = 3;
    let n_names = names.len();
    let shown = if n_names <= MOST + 1 { n_names } else { MOST };
    let mut text = String::new();
    for (ix, name) in names.take(shown).enumerate() {
        text.extend([if ix > 0 { ", " } else { "" }, name.as_ref()]);
    }
    if n_names > shown {
        text.extend([" and ", &(n_names - shown).to_string(), " more"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SourceMap;

    fn shown(all: &[Diagnostic]) -> Vec<String> {
        let one = |it: FoldedDiagnostic<'_>| {
            let targets: Vec<&str> = it.targets.into_iter().collect();
            format!("{}: {} +{}", it.first.message, targets.join(","), it.more.len())
        };
        fold(all).into_iter().map(one).collect()
    }

    #[test]
    fn warnings_are_folded_across_places_and_errors_at_one() {
        let source = SourceMap::default().add("a", "abc");
        let at = |start| Span { source, start, end: start + 1 };
        let of = |it: Diagnostic, target: &str, start| it.of([target]).at(at(start), "here");
        let warning = |target, start| of(Diagnostic::warning("bake::a", "odd"), target, start);
        let error = |target, start| of(Diagnostic::error("bake::a", "bad"), target, start);
        let all = [warning("x", 0), error("x", 0), warning("y", 1), warning("y", 1), error("y", 0), error("z", 1)];
        assert_eq!(shown(&all), ["odd: x,y +1", "bad: x,y +0", "bad: z +0"]);
    }

    #[test]
    fn faults_with_a_topic_are_folded_across_targets_only() {
        let tag = |target: &str, value: &str| {
            let message = format!("`tags[0]` of `{target}`: {value}");
            Diagnostic::warning("bake::a", message).of([target]).topic("tags[0]")
        };
        let all = [tag("x", "A"), tag("x", "B"), tag("y", "C"), tag("y", "D")];
        assert_eq!(shown(&all), ["`tags[0]` of `x`: A: x,y +0", "`tags[0]` of `x`: B: x,y +0"]);
    }

    #[test]
    fn many_alike_warnings_at_different_places_are_folded_and_few_are_not() {
        let source = SourceMap::default().add("a", "abcdefgh");
        let tag = |ix: u32| {
            let at = Span { source, start: ix, end: ix + 1 };
            let it = Diagnostic::warning("bake::a", format!("`tags[0]` of `t{ix}`: T{ix}"));
            it.of([format!("t{ix}")]).topic("tags[0]").at(at, "here")
        };
        let all: Vec<Diagnostic> = (0..5).map(tag).collect();
        assert_eq!(shown(&all[..2]), ["`tags[0]` of `t0`: T0: t0 +0", "`tags[0]` of `t1`: T1: t1 +0"]);
        assert_eq!(shown(&all), ["`tags[0]` of `t0`: T0: t0,t1,t2,t3,t4 +4"]);
    }

    #[test]
    fn many_names_are_counted() {
        let names = |n: usize| some_of((0..n).map(|ix| ix.to_string()));
        assert_eq!((names(1).as_str(), names(4).as_str()), ("0", "0, 1, 2, 3"));
        assert_eq!(names(100), "0, 1, 2 and 97 more");
    }
}
