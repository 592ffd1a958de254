//! Suggestions for misspelt names: the nearest known name.

/// Finds the candidate nearest to `name`, if one is near enough to be what the user meant.
///
/// Near means at most one edit (Damerau-Levenshtein) for every three characters, one for shorter names, ignoring case.
/// A name of one letter is never near, because one edit replaces all of it.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let length = name.chars().count();
    let allowed = (length / 3).max(1).min(length.saturating_sub(1));
    candidates
        .into_iter()
        .filter(|candidate| *candidate != name)
        .map(|candidate| (distance(&lower, &candidate.to_lowercase(), allowed), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, candidate)| (*edits, candidate.len().abs_diff(name.len())))
        .map(|(_, candidate)| candidate)
}

/// Edits between two words (insert, delete, replace, swap neighbours); `limit + 1` when there are more than `limit`.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit {
        return limit + 1;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        if row.iter().all(|edits| *edits > limit) {
            return limit + 1;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// The help text "did you mean `x`?" with the nearest candidate; `None` when nothing is near.
pub(crate) fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|found| format!("did you mean `{found}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typos_and_nothing_far() {
        let known = ["platforms", "platform", "tags", "target"];
        assert_eq!(nearest("tgas", known), Some("tags"));
        assert_eq!(nearest("platfroms", known), Some("platforms"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest("x", ["y", "X", "xy"]), Some("X"));
    }
}
