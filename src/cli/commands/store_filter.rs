//! `--filter` of `bake du` and `bake prune`: which things in the state directory are meant.

use std::time::Duration;

use crate::{
    report::{Diagnostic, suggest},
    store::UsageKind,
};

/// The names of kinds in filters: our own, then those of BuildKit.
const KINDS: &[(&str, &[UsageKind])] = &[
    ("snapshot", &[UsageKind::Snapshot]),
    ("blob", &[UsageKind::Blob]),
    ("cachemount", &[UsageKind::CacheMount]),
    ("git", &[UsageKind::Git]),
    ("log", &[UsageKind::Log]),
    ("failed", &[UsageKind::Failed]),
    ("record", &[UsageKind::Record]),
    ("regular", &[UsageKind::Snapshot, UsageKind::Blob]),
    ("exec.cachemount", &[UsageKind::CacheMount]),
    ("source.git.checkout", &[UsageKind::Git]),
];

/// What filters choose. Without any: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StoreFilter {
    /// What was not used for so long; with the text that says so.
    pub(super) older_than: Option<(String, Duration)>,
    /// Only these kinds; empty: all.
    pub(super) kinds: Vec<UsageKind>,
}

impl StoreFilter {
    /// Reads `--older-than` and the filters `until=DURATION` and `type=KIND`; the last `until` counts, kinds are added up.
    ///
    /// # Errors
    /// When a filter, a kind or a duration is not known.
    pub(super) fn parse(older_than: Option<&str>, filters: &[String]) -> Result<Self, Box<Diagnostic>> {
        let mut found = Self::default();
        let mut age = older_than;
        for filter in filters {
            match filter.split_once('=') {
                Some(("until", value)) => age = Some(value),
                Some(("type", name)) => found.kinds.extend(kinds(name)?),
                _ => {
                    let message = format!("there is no such filter: {filter}");
                    let fault = Diagnostic::error("bake::cli::bad_filter", message);
                    return Err(Box::new(fault.help("write until=24h or type=cachemount")));
                }
            }
        }
        found.older_than = age.map(|text| duration(text).map(|age| (text.to_owned(), age))).transpose()?;
        Ok(found)
    }
}

/// `snapshot`: the name of a kind where things are shown.
pub(super) fn kind_name(kind: UsageKind) -> &'static str {
    KINDS.iter().find(|(_, kinds)| *kinds == [kind]).map_or("", |(name, _)| name)
}

fn kinds(name: &str) -> Result<&'static [UsageKind], Box<Diagnostic>> {
    let names = || KINDS.iter().map(|(name, _)| *name);
    KINDS.iter().find(|(known, _)| *known == name).map(|(_, kinds)| *kinds).ok_or_else(|| {
        let help = suggest::did_you_mean(name, names())
            .unwrap_or_else(|| format!("known are {}", names().collect::<Vec<_>>().join(", ")));
        Box::new(Diagnostic::error("bake::cli::bad_filter", format!("nothing of this type is kept: {name}")).help(help))
    })
}

/// `90s`, `30m`, `24h`, `7d`, and sums of them.
fn duration(text: &str) -> Result<Duration, Box<Diagnostic>> {
    let bad = || {
        let message = format!("not a duration: {text}");
        Box::new(
            Diagnostic::error("bake::cli::bad_duration", message).help("write a number and s, m, h or d, as in 24h"),
        )
    };
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let count: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let seconds = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86400,
            _ => return Err(bad()),
        };
        total = count.checked_mul(seconds).and_then(|it| total.checked_add(it)).ok_or_else(bad)?;
        rest = &rest[digits + 1..];
    }
    if text.is_empty() { Err(bad()) } else { Ok(Duration::from_secs(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_add_up() {
        let parse = |age: Option<&str>, filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|it| (*it).to_owned()).collect();
            StoreFilter::parse(age, &filters)
        };
        let day = Some(("24h".to_owned(), Duration::from_secs(86400)));
        assert_eq!(parse(Some("7d"), &["until=24h"]).unwrap().older_than, day);
        assert_eq!(parse(None, &["type=regular", "type=git"]).unwrap().kinds.len(), 3);
        for bad in ["until", "until=x", "type=snap", "colour=red"] {
            assert!(parse(None, &[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_units() {
        let seconds = |text: &str| duration(text).ok().map(|it| it.as_secs());
        assert_eq!(seconds("24h"), Some(86400));
        assert_eq!(seconds("1h30m"), Some(5400));
        for bad in ["", "24", "h", "1x", "1ü", "99999999999999999999d", "-1h"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
