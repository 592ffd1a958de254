//! `annotations`: `[TYPE[PLATFORM],…:]KEY=VALUE`.

use super::Fault;
use crate::{oci::Platform, report::suggest};

/// Which object carries the annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Manifest,
    ManifestDescriptor,
    Index,
    IndexDescriptor,
}

/// One annotation and the places where it goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Annotation {
    /// Never empty; a platform limits it to that platform.
    pub(crate) levels: Vec<(Level, Option<Platform>)>,
    pub(crate) key: String,
    pub(crate) value: String,
}

const LEVELS: [(&str, Level); 4] = [
    ("manifest", Level::Manifest),
    ("manifest-descriptor", Level::ManifestDescriptor),
    ("index", Level::Index),
    ("index-descriptor", Level::IndexDescriptor),
];

impl Annotation {
    /// Reads one annotation.
    ///
    /// # Errors
    /// Without `=`, on an unknown type or a bad platform.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let form = "write KEY=VALUE or TYPE:KEY=VALUE, as in index,manifest[linux/amd64]:org.example.a=1";
        let (key, value) =
            text.split_once('=').ok_or_else(|| Fault::new(format!("not an annotation: {text}")).help(form))?;
        let (levels, key) = match key.split_once(':') {
            Some((levels, key)) => (levels.split(',').map(|it| level(it, text)).collect::<Result<_, _>>()?, key),
            None => (vec![(Level::Manifest, None)], key),
        };
        Ok(Self { levels, key: key.to_owned(), value: value.to_owned() })
    }
}

fn level(text: &str, whole: &str) -> Result<(Level, Option<Platform>), Fault> {
    let (name, platform) = match text.split_once('[') {
        Some((name, rest)) => {
            let inner = rest
                .strip_suffix(']')
                .ok_or_else(|| Fault::new(format!("`[` is not closed in the annotation: {whole}")))?;
            (
                name,
                Some(
                    Platform::parse(inner)
                        .map_err(|error| Fault::new(format!("{error} in the annotation: {whole}")))?,
                ),
            )
        }
        None => (text, None),
    };
    let found = LEVELS.iter().find(|(known, _)| *known == name).map(|(_, level)| *level);
    found.map(|level| (level, platform)).ok_or_else(|| {
        let names = LEVELS.map(|(name, _)| name);
        let help = suggest::did_you_mean(name, names).unwrap_or_else(|| format!("known types: {}", names.join(", ")));
        Fault::new(format!("`{name}` is not an annotation type: {whole}")).help(help)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_name_their_levels() {
        let it = Annotation::parse("index,manifest[linux/amd64]:a.b=c=d").expect("valid");
        assert_eq!((it.levels.len(), it.key.as_str(), it.value.as_str()), (2, "a.b", "c=d"));
        assert_eq!(Annotation::parse("a=1").expect("valid").levels, [(Level::Manifest, None)]);
        assert_eq!(
            Annotation::parse("layer:a=1").expect_err("bad").message,
            "`layer` is not an annotation type: layer:a=1"
        );
        assert!(Annotation::parse("a").is_err());
    }
}
