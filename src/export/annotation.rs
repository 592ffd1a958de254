//! Annotations as users write them, and the level of the image that each goes to.

use std::collections::BTreeMap;

use crate::oci::Platform;

/// What carries an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Manifest,
    ManifestDescriptor,
    Index,
    IndexDescriptor,
}

pub(super) const LEVELS: &[(&str, Level)] = &[
    ("manifest", Level::Manifest),
    ("manifest-descriptor", Level::ManifestDescriptor),
    ("index", Level::Index),
    ("index-descriptor", Level::IndexDescriptor),
];

/// One annotation at one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Annotation {
    pub(super) level: Level,
    pub(super) platform: Option<Platform>,
    pub(super) key: String,
    pub(super) value: String,
}

/// Reads `[TYPE[PLATFORM][,…]:]KEY=VALUE`.
///
/// # Errors
/// The text says what is wrong.
pub(super) fn parse(text: &str) -> Result<Vec<Annotation>, String> {
    let (left, value) = text.split_once('=').ok_or_else(|| format!("an annotation wants `KEY=VALUE`: {text}"))?;
    let (levels, key) = match left.split_once(':') {
        // A colon may be part of the key; it separates levels only when those before it are words.
        Some((levels, key)) if levels.chars().all(|c| c.is_ascii_alphanumeric() || "-_,[]/.".contains(c)) => {
            (Some(levels), key)
        }
        _ => (None, left),
    };
    if key.is_empty() {
        return Err(format!("an annotation has no key: {text}"));
    }
    let of = |(level, platform)| Annotation { level, platform, key: key.to_owned(), value: value.to_owned() };
    match levels {
        None => Ok(vec![of((Level::Manifest, None))]),
        Some(levels) => levels.split(',').map(|it| target(it).map(of)).collect(),
    }
}

/// Reads an output option `annotation[-TYPE][[PLATFORM]].KEY`; `None` when the option is none.
///
/// # Errors
/// The text says what is wrong.
pub(super) fn parse_option(name: &str, value: &str) -> Option<Result<Annotation, String>> {
    let rest = name.strip_prefix("annotation")?;
    let (head, key) = match rest.find(']') {
        Some(end) => (&rest[..=end], rest[end + 1..].strip_prefix('.')?),
        None => rest.split_once('.')?,
    };
    if key.is_empty() || key.chars().any(char::is_whitespace) {
        return None;
    }
    let parsed = match head {
        "" => Ok((Level::Manifest, None)),
        head if head.starts_with('[') => target(&format!("manifest{head}")),
        head => target(head.strip_prefix('-')?),
    };
    let of = |(level, platform)| Annotation { level, platform, key: key.to_owned(), value: value.to_owned() };
    Some(parsed.map(of))
}

/// Reads `TYPE[PLATFORM]`.
fn target(text: &str) -> Result<(Level, Option<Platform>), String> {
    let (name, platform) = match text.split_once('[') {
        Some((name, rest)) => {
            let platform = rest.strip_suffix(']').ok_or_else(|| format!("a `]` is missing in: {text}"))?;
            let parsed = Platform::parse(platform).map_err(|_| format!("not a platform: {platform}"))?;
            (name, Some(parsed))
        }
        None => (text, None),
    };
    let names: Vec<&str> = LEVELS.iter().map(|(name, _)| *name).collect();
    let level = LEVELS.iter().find(|(it, _)| *it == name).map(|(_, level)| *level);
    let level = level.ok_or_else(|| format!("unknown annotation type, known are {}: {name}", names.join(", ")))?;
    if platform.is_some() && matches!(level, Level::Index | Level::IndexDescriptor) {
        return Err(format!("an annotation of the index has no platform: {text}"));
    }
    Ok((level, platform))
}

/// The annotations of one level, for one platform; later ones win, those for the platform over those for all.
pub(super) fn at(all: &[Annotation], level: Level, platform: Option<&Platform>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for exact in [false, true] {
        for it in all.iter().filter(|it| it.level == level && it.platform.is_some() == exact) {
            if !exact || it.platform.as_ref() == platform {
                found.insert(it.key.clone(), it.value.clone());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let one = parse("index,manifest[linux/arm64]:a.b=c=d").expect("good");
        assert_eq!(one[0].level, Level::Index);
        assert_eq!(one[1].platform, Platform::parse("linux/arm64").ok());
        assert_eq!((one[1].key.as_str(), one[1].value.as_str()), ("a.b", "c=d"));
        assert_eq!(parse("k=v").expect("good")[0].level, Level::Manifest);
        assert_eq!(parse("org x:y=v").expect("good")[0].key, "org x:y");
        let of = |name: &str| parse_option(name, "v").expect("an annotation").expect("good");
        assert_eq!(of("annotation.a.b").key, "a.b");
        assert_eq!(of("annotation-index-descriptor.a").level, Level::IndexDescriptor);
        assert_eq!(of("annotation-manifest[linux/arm/v7].a").platform, Platform::parse("linux/arm/v7").ok());
        assert_eq!(of("annotation[linux/amd64].a").level, Level::Manifest);
        assert!(parse_option("compression", "v").is_none());
        assert!(parse_option("annotationx", "v").is_none());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(parse("lonely").expect_err("bad").contains("lonely"));
        assert!(parse("layer:x=1").expect_err("bad").contains("layer"));
        assert!(parse("manifest[linux/:x=1").expect_err("bad").contains("manifest[linux/"));
        assert!(parse("index[linux/amd64]:x=1").is_err());
        assert!(parse_option("annotation-layer.x", "1").expect("an annotation").is_err());
    }

    #[test]
    fn the_more_exact_and_the_later_win() {
        let all: Vec<Annotation> =
            ["manifest[linux/arm64]:a=3", "a=1", "a=2", "b=1"].iter().flat_map(|it| parse(it).expect("good")).collect();
        let of = |platform: &str| at(&all, Level::Manifest, Platform::parse(platform).ok().as_ref());
        assert_eq!(
            of("linux/amd64").into_iter().collect::<Vec<_>>(),
            [("a".into(), "2".into()), ("b".into(), "1".into())]
        );
        assert_eq!(of("linux/arm64")["a"], "3");
    }
}
