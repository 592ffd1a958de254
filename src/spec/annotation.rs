//! Annotations and what carries them: `[TYPE[PLATFORM],…:]KEY=VALUE` of a target, `annotation[-TYPE][[PLATFORM]].KEY` of an
//! output. See <https://docs.docker.com/build/metadata/annotations/>.

use super::{fault::OptionFault, options::OptionReader};
use crate::{oci::Platform, report::suggest};

/// What carries an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AnnotationLevel {
    Manifest,
    ManifestDescriptor,
    Index,
    IndexDescriptor,
}

const LEVELS: [(&str, AnnotationLevel); 4] = [
    ("manifest", AnnotationLevel::Manifest),
    ("manifest-descriptor", AnnotationLevel::ManifestDescriptor),
    ("index", AnnotationLevel::Index),
    ("index-descriptor", AnnotationLevel::IndexDescriptor),
];

impl AnnotationLevel {
    /// Whether it is of the index of several images.
    pub(crate) const fn is_of_index(self) -> bool {
        matches!(self, Self::Index | Self::IndexDescriptor)
    }
}

/// One annotation at one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotation {
    pub(crate) level: AnnotationLevel,
    /// Only images of this platform.
    pub(crate) platform: Option<Platform>,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Parses `[TYPE[PLATFORM],…:]KEY=VALUE`: one annotation for each type.
///
/// # Errors
/// Without `=` or key, on an unknown type or a bad platform.
pub(crate) fn parse(text: &str) -> Result<Vec<Annotation>, OptionFault> {
    let form = "write KEY=VALUE or TYPE:KEY=VALUE, as in index,manifest[linux/amd64]:org.example.a=1";
    let (left, value) =
        text.split_once('=').ok_or_else(|| OptionFault::new(format!("not an annotation: {text}")).help(form))?;
    let (levels, key) = left.split_once(':').map_or((None, left), |(levels, key)| (Some(levels), key));
    if key.is_empty() {
        return Err(OptionFault::new(format!("an annotation has no key: {text}")).help(form));
    }
    let of = |(level, platform)| Annotation { level, platform, key: key.to_owned(), value: value.to_owned() };
    match levels {
        None => Ok(vec![of((AnnotationLevel::Manifest, None))]),
        Some(levels) => levels.split(',').map(|it| level(it, text).map(of)).collect(),
    }
}

/// Reads the annotations among the options of an output.
pub(super) fn read(options: &mut OptionReader<'_>) -> Vec<Annotation> {
    let mut found = Vec::new();
    for (name, value) in options.all() {
        let Some((head, key)) = split(name) else { continue };
        options.take(name);
        let parsed = match head {
            "" => Ok((AnnotationLevel::Manifest, None)),
            head if head.starts_with('[') => level(&format!("manifest{head}"), name),
            head => level(&head[1..], name),
        };
        match parsed {
            Ok((level, platform)) => {
                found.push(Annotation { level, platform, key: key.to_owned(), value: value.to_owned() });
            }
            Err(fault) => options.fault(fault.of(name, value)),
        }
    }
    found
}

/// The parts of `annotation[-TYPE][[PLATFORM]].KEY`: what stands before the dot, and the key. `None` for other options.
fn split(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix("annotation")?;
    let (head, key) = match rest.find(']') {
        Some(end) => (&rest[..=end], rest[end + 1..].strip_prefix('.')?),
        None => rest.split_once('.')?,
    };
    let is_head = head.is_empty() || head.starts_with(['[', '-']);
    (is_head && !key.is_empty() && !key.chars().any(char::is_whitespace)).then_some((head, key))
}

/// Parses `TYPE[PLATFORM]`; `whole` is what it stands in.
fn level(text: &str, whole: &str) -> Result<(AnnotationLevel, Option<Platform>), OptionFault> {
    let (name, platform) = match text.split_once('[') {
        Some((name, rest)) => {
            let inner = rest.strip_suffix(']');
            let open = || OptionFault::new(format!("`[` is not closed in the annotation: {whole}"));
            let parsed = Platform::parse(inner.ok_or_else(open)?);
            let bad = |error| OptionFault::new(format!("{error} in the annotation: {whole}"));
            (name, Some(parsed.map_err(bad)?))
        }
        None => (text, None),
    };
    let Some((_, level)) = LEVELS.iter().find(|(known, _)| *known == name) else {
        let names = LEVELS.map(|(known, _)| known);
        let help = suggest::did_you_mean(name, names).unwrap_or_else(|| format!("known types: {}", names.join(", ")));
        return Err(OptionFault::new(format!("`{name}` is not an annotation type: {whole}")).help(help));
    };
    if platform.is_some() && level.is_of_index() {
        return Err(OptionFault::new(format!("an annotation of the index has no platform: {whole}")));
    }
    Ok((*level, platform))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::OptionItem;

    #[test]
    fn annotations_name_their_levels() {
        let both = parse("index,manifest[linux/amd64]:a.b=c=d").expect("good");
        assert_eq!(both[0].level, AnnotationLevel::Index);
        assert_eq!(both[1].platform, Platform::parse("linux/amd64").ok());
        assert_eq!((both[1].key.as_str(), both[1].value.as_str()), ("a.b", "c=d"));
        assert_eq!(parse("a=1").expect("good")[0].level, AnnotationLevel::Manifest);
        let message = |text: &str| parse(text).expect_err("bad").message;
        assert_eq!(message("layer:a=1"), "`layer` is not an annotation type: layer:a=1");
        assert_eq!(
            message("manifest[linux/amd64:a=1"),
            "`[` is not closed in the annotation: manifest[linux/amd64:a=1"
        );
        assert_eq!(message("a"), "not an annotation: a");
        assert!(message("index[linux/amd64]:x=1").contains("no platform"));
    }

    #[test]
    fn options_may_be_annotations() {
        let check = |name: &str| {
            let item = OptionItem::read([(name.to_owned(), "v".to_owned())].into(), read);
            match (item.value.as_slice(), item.faults.as_slice()) {
                ([one], []) => {
                    format!("{:?} {:?} {}", one.level, one.platform.as_ref().map(ToString::to_string), one.key)
                }
                ([], [fault]) => fault.message.clone(),
                _ => format!("unknown: {}", item.unknown.len()),
            }
        };
        assert_eq!(check("annotation.a.b"), "Manifest None a.b");
        assert_eq!(check("annotation-index-descriptor.a"), "IndexDescriptor None a");
        assert_eq!(check("annotation-manifest[linux/arm/v7].a"), "Manifest Some(\"linux/arm/v7\") a");
        assert_eq!(check("annotation[linux/amd64].a"), "Manifest Some(\"linux/amd64\") a");
        assert_eq!(check("annotation-layer.x"), "`layer` is not an annotation type: annotation-layer.x");
        assert_eq!(check("annotationx"), "unknown: 1");
        assert_eq!(check("compression"), "unknown: 1");
    }
}
