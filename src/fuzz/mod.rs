//! Entry points of the fuzz targets in `fuzz/`, one for each parser of untrusted input. Compiled only with the feature
//! `fuzzing`, so that a normal build exposes nothing but `cli`.
//!
//! A target fails by a panic: of the parser itself, or of a property that is asserted here (a diagnostic points into
//! the text, a formatted file keeps its form). No target opens a network connection; only [`layer_tar`] writes files.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use crate::{
    archive,
    definition::{
        compose::{self, ComposeFile},
        format::format,
        hcl, json,
        load::Format,
        read::{ComposeFileReader, ReadReason},
        yaml,
    },
    dockerfile, layer,
    oci::Codec,
    registry,
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

/// Parses a Dockerfile, lowers it with all its checks if it has no fault, and parses the same text as an ignore file.
pub fn dockerfile(data: &[u8]) {
    let Some(input) = FuzzText::new("Dockerfile", data) else { return };
    let (file, diagnostics) = dockerfile::parse(input.id, input.text);
    input.assert_places(&diagnostics);
    if diagnostics.is_empty() {
        input.assert_places(&dockerfile::fuzz_lower(&file));
    }
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

/// Has owners of files recorded and not given, from now on in this process: only root could give them, and every layer would
/// end at its first file.
pub fn record_owners() {
    layer::view::owners::record();
}

/// Unpacks a layer, compressed or not, into the empty folder `dest` above the folder `lower`; and makes an estargz layer of it
/// if it can be unpacked.
pub fn layer_tar(data: &[u8], dest: &Path, lower: &Path) {
    const MAX_BYTES: u64 = 1 << 20;
    let limits = layer::UnpackLimits { entries: 1000, bytes: MAX_BYTES };
    // What is refused is refused with an error; only a panic is a finding.
    if layer::unpack(data, dest, &[lower.to_owned()], &limits).is_ok() {
        let plain = archive::decode(data).expect("its first bytes were read before").take(MAX_BYTES);
        layer::encode(Codec::Estargz, None, plain, io::sink()).ok();
    }
}

/// Gives every header of an uncompressed archive the checksum of its bytes. A change anywhere in a header makes it wrong, so that
/// nearly every input would end at that.
pub fn mend_checksums(tar: &mut [u8]) {
    const BLOCK: usize = 512;
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            return;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let size = header[124..136].iter().filter(|byte| (b'0'..=b'7').contains(byte));
        let size = size.fold(0_usize, |size, digit| (size << 3 | usize::from(digit - b'0')) & 0xff_ffff);
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
}

/// Asserts that a file without faults can be laid out, and that its layout is laid out to itself.
fn assert_format_is_stable(input: &FuzzText<'_>, form: Format) {
    let Ok(once) = format(form, input.id, input.text) else { return };
    let twice = format(form, input.id, &once).unwrap_or_default();
    assert_eq!(once, twice, "the layout is not stable");
}
