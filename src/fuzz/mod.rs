//! Entry points of the fuzz targets in `fuzz/`, one for each parser of untrusted input. Compiled only with the feature
//! `fuzzing`, so that a normal build exposes nothing but `cli`.
//!
//! A target fails by a panic: of the parser itself, or of a property that is asserted here (a diagnostic points into
//! the text, a formatted file keeps its form). No target opens a network connection; only [`layer_tar`] writes files.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crate::{
    definition::{
        compose::{self, ComposeFile},
        format::format,
        hcl, json,
        load::Format,
        read::{ComposeFileReader, ReadReason},
        yaml,
    },
    dockerfile, layer, registry,
    report::{Diagnostic, SourceId, SourceMap},
};

/// Longest input that is tried: longer ones only slow the search down.
const MAX_INPUT: usize = 64 << 10;

/// One text that is parsed, and the map that places refer to.
struct FuzzText<'a> {
    text: &'a str,
    sources: SourceMap,
    id: SourceId,
}

impl<'a> FuzzText<'a> {
    /// The input as a source file of this name; `None` when it is not UTF-8 or too long, which the loader refuses.
    fn new(name: &str, data: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(data).ok().filter(|text| text.len() <= MAX_INPUT)?;
        let mut sources = SourceMap::default();
        let id = sources.add(name, text);
        Some(Self { text, sources, id })
    }

    /// Asserts that every diagnostic points into a source that can be quoted.
    fn assert_places(&self, diagnostics: &[Diagnostic]) {
        for label in diagnostics.iter().flat_map(|diagnostic| &diagnostic.labels) {
            let text = &self.sources.get(label.at.source).text;
            let part = text.get(label.at.start as usize..label.at.end as usize);
            assert!(part.is_some(), "a place lies outside of its text: {label:?}");
            self.sources.place(label.at);
        }
    }
}

/// Parses a Dockerfile, and the same text as an ignore file.
pub fn dockerfile(data: &[u8]) {
    let Some(input) = FuzzText::new("Dockerfile", data) else { return };
    input.assert_places(&dockerfile::parse(input.id, input.text).1);
    input.assert_places(&dockerfile::ignore::parse_ignore(input.id, input.text).1);
}

/// Parses a bake file in HCL and lays it out.
pub fn hcl(data: &[u8]) {
    let Some(input) = FuzzText::new("docker-bake.hcl", data) else { return };
    let (_, diagnostics) = hcl::parse(input.id, input.text);
    input.assert_places(&diagnostics);
    if diagnostics.is_empty() {
        assert_format_is_stable(&input, Format::Hcl);
    }
}

/// Parses a bake file in JSON and lays it out.
pub fn json(data: &[u8]) {
    let Some(input) = FuzzText::new("docker-bake.json", data) else { return };
    let (_, diagnostics) = json::parse(input.id, input.text);
    input.assert_places(&diagnostics);
    if diagnostics.is_empty() {
        assert_format_is_stable(&input, Format::Json);
    }
}

/// Parses a bake file in YAML.
pub fn yaml(data: &[u8]) {
    let Some(input) = FuzzText::new("docker-bake.yaml", data) else { return };
    match yaml::parse(input.id, input.text) {
        Err(fault) => input.assert_places(&[*fault]),
        Ok(documents) => {
            for document in &documents {
                input.assert_places(&yaml::body(input.id, input.text, document).1);
            }
        }
    }
}

/// Loads a Compose file that finds no other file.
pub fn compose(data: &[u8]) {
    struct NoFiles;
    impl ComposeFileReader for NoFiles {
        fn read(&mut self, _: &str, _: ReadReason<'_>) -> Result<Option<(SourceId, Arc<str>)>, Box<Diagnostic>> {
            Ok(None)
        }
    }
    let Some(input) = FuzzText::new("compose.yaml", data) else { return };
    let Ok(documents) = yaml::parse(input.id, input.text) else { return };
    let file = ComposeFile { name: "compose.yaml".to_owned(), source: input.id, documents };
    let env = BTreeMap::from([("V".to_owned(), "value".to_owned()), ("HOME".to_owned(), "/home/user".to_owned())]);
    input.assert_places(&compose::load(&[file], &env, &BTreeMap::new(), &mut NoFiles).diagnostics);
}

/// Parses a manifest or an index, chooses a platform, and parses the same bytes as an image config.
pub fn image(data: &[u8]) {
    if data.len() <= MAX_INPUT {
        registry::fuzz_documents(data);
    }
}

/// Parses the headers that a registry answers with: challenges, ranges, locations, waiting times.
pub fn registry_headers(data: &[u8]) {
    if data.len() <= MAX_INPUT {
        registry::fuzz_headers(data);
    }
}

/// Unpacks a layer, compressed or not, into the empty folder `dest` above the folder `lower`.
pub fn layer_tar(data: &[u8], dest: &Path, lower: &Path) {
    let limits = layer::UnpackLimits { entries: 1000, bytes: 1 << 20 };
    // What is refused is refused with an error; only a panic is a finding.
    layer::unpack(data, dest, &[lower.to_owned()], &limits).ok();
}

/// Asserts that a file without faults can be laid out, and that its layout is laid out to itself.
fn assert_format_is_stable(input: &FuzzText<'_>, form: Format) {
    let Ok(once) = format(form, input.id, input.text) else { return };
    let twice = format(form, input.id, &once).unwrap_or_default();
    assert_eq!(once, twice, "the layout is not stable");
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    /// Variants of each seed that are tried: enough for a smoke test, the search itself is libFuzzer's.
    const N_VARIANTS: u64 = 400;

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let entries = fs::read_dir(&folder).expect("every target has seeds");
        entries.map(|entry| fs::read(entry.expect("readable").path()).expect("readable")).collect()
    }

    /// A few bytes of `seed` changed, removed, repeated or taken from elsewhere in it, decided by `n` alone.
    fn variant(seed: &[u8], n: u64) -> Vec<u8> {
        let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % limit.max(1) as u64).expect("below a usize")
        };
        let mut bytes = seed.to_vec();
        for _ in 0..=below(4) {
            let at = below(bytes.len() + 1);
            let end = (at + below(16)).min(bytes.len());
            match below(5) {
                0 if at < bytes.len() => bytes[at] = u8::try_from(below(256)).expect("below 256"),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let from = below(seed.len() + 1);
                    let part = seed[from..(from + below(32)).min(seed.len())].to_vec();
                    drop(bytes.splice(at..at, part));
                }
                3 => bytes.truncate(at),
                _ => {
                    let piece: &[u8] = [&b"\""[..], b"${", b"\n", b"\\", "é".as_bytes(), b"}", b"\0", b"<<"][below(8)];
                    drop(bytes.splice(at..at, piece.iter().copied()));
                }
            }
        }
        bytes
    }

    fn survive(target: &str, parse: impl Fn(&[u8])) {
        for seed in seeds(target) {
            parse(&seed);
            (0..N_VARIANTS).for_each(|n| parse(&variant(&seed, n)));
        }
    }

    #[test]
    fn seeds_of_texts_and_what_is_near_them_are_survived() {
        survive("dockerfile", dockerfile);
        survive("hcl", hcl);
        survive("json", json);
        survive("yaml", yaml);
        survive("compose", compose);
    }

    #[test]
    fn seeds_of_registries_and_what_is_near_them_are_survived() {
        survive("image", image);
        survive("registry_headers", registry_headers);
    }

    #[test]
    fn seeds_of_layers_and_what_is_near_them_are_survived() {
        survive("layer_tar", |bytes| {
            let root = tempfile::tempdir().expect("a temporary folder can be made");
            let (dest, lower) = (root.path().join("dest"), root.path().join("lower"));
            fs::create_dir(&dest).expect("the folder is new");
            fs::create_dir(&lower).expect("the folder is new");
            layer_tar(bytes, &dest, &lower);
            assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 2, "nothing is written beside it");
        });
    }
}
