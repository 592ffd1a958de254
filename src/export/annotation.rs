//! Which annotations an image, an index or a descriptor gets.

use std::collections::BTreeMap;

use crate::{
    oci::Platform,
    spec::annotation::{Annotation, AnnotationLevel},
};

/// Selects the annotations of one level (manifest, index, …) for one platform; later ones win, those for the platform
/// over those for all.
pub(super) fn at(all: &[Annotation], level: AnnotationLevel, platform: Option<&Platform>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for exact in [false, true] {
        for it in all.iter().filter(|annotation| annotation.level == level && annotation.platform.is_some() == exact) {
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
    use crate::spec::annotation::parse;

    #[test]
    fn the_more_exact_and_the_later_win() {
        let all: Vec<Annotation> =
            ["manifest[linux/arm64]:a=3", "a=1", "a=2", "b=1"].iter().flat_map(|it| parse(it).expect("good")).collect();
        let of = |platform: &str| at(&all, AnnotationLevel::Manifest, Platform::parse(platform).ok().as_ref());
        assert_eq!(
            of("linux/amd64").into_iter().collect::<Vec<_>>(),
            [("a".into(), "2".into()), ("b".into(), "1".into())]
        );
        assert_eq!(of("linux/arm64")["a"], "3");
    }
}
