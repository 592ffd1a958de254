//! `attest`: which attestations go with the image. One variant a type.

use std::collections::BTreeMap;

use crate::oci::{Digest, Reference, digest::FieldHasher, key::KeyField as _};

use super::{
    csv::{self, not_key_value},
    fault::{OptionFault, boolean},
    options::{OptionItem, OptionReader, OptionTexts, unknown_type},
};

/// One attestation request; of several with one type the last counts.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct Attest {
    /// It says that there is to be no such attestation.
    pub(crate) disabled: bool,
    pub(crate) kind: AttestKind,
}

/// The attestation that is asked for.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) enum AttestKind {
    Provenance(ProvenanceOptions),
    Sbom(SbomOptions),
    /// A type that this engine does not know.
    Unknown,
}

/// `type=provenance`.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct ProvenanceOptions {
    pub(crate) mode: ProvenanceMode,
    pub(crate) version: SlsaVersion,
    /// Who built it, as a URL; may be empty.
    pub(crate) builder_id: String,
    /// The name of the file beside a local or tar output.
    pub(crate) filename: String,
    pub(crate) reproducible: bool,
    /// Only exporters that keep attestations inline have it.
    pub(crate) inline_only: bool,
}

/// How much provenance tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProvenanceMode {
    Min,
    Max,
}

/// The version of the SLSA predicate, see <https://slsa.dev/spec/>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlsaVersion {
    V02,
    V1,
}

/// `type=sbom`.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct SbomOptions {
    /// The image of the scanner
    /// (<https://github.com/moby/buildkit/blob/master/docs/attestations/sbom-protocol.md>).
    pub(crate) generator: Reference,
    /// What else is given: options that only the scanner knows.
    pub(crate) parameters: BTreeMap<String, String>,
}

/// The attestations of a result: what is asked for, and what comes by default.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct Attestations {
    pub(crate) provenance: Option<WantedProvenance>,
    pub(crate) sbom: Option<SbomOptions>,
}

/// Provenance that a result gets.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct WantedProvenance {
    pub(crate) options: ProvenanceOptions,
    /// Nobody asked for it.
    pub(crate) by_default: bool,
}

/// The types that exist.
pub(crate) const TYPES: &[&str] = &["provenance", "sbom"];

impl Attestations {
    /// The attestations that these requests give. Without a request for provenance it comes by default, for exporters
    /// that keep attestations inline, unless `no_default`.
    pub(crate) fn of<'a>(requests: impl DoubleEndedIterator<Item = &'a Attest> + Clone, no_default: bool) -> Self {
        let provenance = requests.clone().rev().find_map(|request| match &request.kind {
            AttestKind::Provenance(options) => Some((request.disabled, options)),
            _ => None,
        });
        let sbom = requests.rev().find_map(|request| match &request.kind {
            AttestKind::Sbom(options) => Some((request.disabled, options)),
            _ => None,
        });
        let default = ProvenanceOptions {
            mode: ProvenanceMode::Min,
            version: SlsaVersion::V1,
            builder_id: String::new(),
            filename: PROVENANCE_FILE.to_owned(),
            reproducible: false,
            inline_only: true,
        };
        Self {
            provenance: match provenance {
                Some((true, _)) => None,
                Some((false, options)) => Some(WantedProvenance { options: options.clone(), by_default: false }),
                None if no_default => None,
                None => Some(WantedProvenance { options: default, by_default: true }),
            },
            sbom: sbom.filter(|(disabled, _)| !disabled).map(|(_, options)| options.clone()),
        }
    }

    /// Whether any was asked for, rather than coming by default.
    pub(crate) fn is_explicit(&self) -> bool {
        self.sbom.is_some() || self.provenance.as_ref().is_some_and(|wanted| !wanted.by_default)
    }

    /// The provenance of an exporter that keeps inline-only attestations, or does not.
    pub(crate) fn provenance(&self, inline: bool) -> Option<&ProvenanceOptions> {
        let wanted = self.provenance.as_ref()?;
        Some(&wanted.options).filter(|options| inline || !options.inline_only)
    }
}

impl OptionItem<Attest> {
    /// Parses `type=T[,disabled=B],k=v…`; keys are kept as written.
    ///
    /// # Errors
    /// When `type` is missing, `disabled` is no boolean or a field is not `key=value`.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let mut entries = BTreeMap::new();
        for field in csv::fields(text)? {
            let (key, value) = field.split_once('=').ok_or_else(|| not_key_value(&field, text))?;
            entries.insert(key.trim().to_owned(), value.to_owned());
        }
        let attest = Self::from_entries(&entries)?;
        if attest.type_name().is_empty() {
            return Err(
                OptionFault::new(format!("`type` is missing in: {text}")).help("write type=provenance or type=sbom")
            );
        }
        Ok(attest)
    }

    /// Parses the object form. `type` may be missing, as in the peer: the caller warns.
    ///
    /// # Errors
    /// When `disabled` is no boolean.
    pub(crate) fn from_entries(entries: &BTreeMap<String, String>) -> Result<Self, OptionFault> {
        let mut disabled = false;
        let mut texts = OptionTexts::from([("type".to_owned(), String::new())]);
        for (key, value) in entries {
            match key.to_lowercase().as_str() {
                "type" => {
                    texts.insert("type".to_owned(), value.clone());
                }
                "disabled" => {
                    disabled = boolean(value).map_err(|fault| OptionFault {
                        message: format!("`disabled` is {}", fault.message),
                        ..fault
                    })?;
                }
                _ => {
                    texts.insert(key.clone(), value.clone());
                }
            }
        }
        Ok(Self::read(texts, |options| Attest { disabled, kind: AttestKind::read(options) }))
    }

    /// The type as written.
    pub(crate) fn type_name(&self) -> &str {
        self.texts().get("type").map_or("", String::as_str)
    }
}

#[cfg(test)]
impl AttestKind {
    /// The options of an attestation of this type.
    pub(crate) fn options(kind: &str) -> Vec<&'static str> {
        OptionItem::known(kind, Self::read)
    }
}

const PROVENANCE_FILE: &str = "provenance.json";

impl AttestKind {
    fn read(options: &mut OptionReader<'_>) -> Self {
        match options.kind() {
            "provenance" => Self::Provenance(ProvenanceOptions::read(options)),
            "sbom" => Self::Sbom(SbomOptions::read(options)),
            other => {
                options.open();
                options.fault(unknown_type(other, "not an attestation type", TYPES));
                Self::Unknown
            }
        }
    }
}

impl ProvenanceOptions {
    /// Whether it tells all that is known.
    pub(crate) const fn is_max(&self) -> bool {
        matches!(self.mode, ProvenanceMode::Max)
    }

    fn read(options: &mut OptionReader<'_>) -> Self {
        const MODES: &[(&str, ProvenanceMode)] = &[("min", ProvenanceMode::Min), ("max", ProvenanceMode::Max)];
        const VERSIONS: &[(&str, SlsaVersion)] = &[("v1", SlsaVersion::V1), ("v0.2", SlsaVersion::V02)];
        let filename = options.owned("filename").unwrap_or_else(|| PROVENANCE_FILE.to_owned());
        if filename.contains('/') || matches!(filename.as_str(), "." | "..") {
            options.bad("filename", &filename, format!("provenance: `filename` is a path: {filename}"), None);
        }
        Self {
            mode: options.choice("mode", MODES, ProvenanceMode::Max, "provenance: `mode` is neither min nor max"),
            version: options.choice(
                "version",
                VERSIONS,
                SlsaVersion::V1,
                "provenance: `version` is neither v1 nor v0.2",
            ),
            builder_id: options.owned("builder-id").unwrap_or_default(),
            filename,
            reproducible: options.flag("reproducible", false),
            inline_only: options.flag("inline-only", false),
        }
    }
}

/// The scanner that is run when none is named: the peer's.
const SBOM_GENERATOR: &str = "docker.io/docker/buildkit-syft-scanner:stable-1";

impl SbomOptions {
    /// What tells these options from others.
    pub(crate) fn id(&self) -> Digest {
        let mut hasher = FieldHasher::new("sbom/1");
        self.add_to(&mut hasher);
        hasher.finish()
    }

    fn read(options: &mut OptionReader<'_>) -> Self {
        let default = || Reference::parse(SBOM_GENERATOR).expect("a reference");
        let parse = |text: &str| Reference::parse(text).ok();
        let generator = options.parsed("generator", parse, "write the name of an image, as in FROM");
        Self { generator: generator.unwrap_or_else(default), parameters: options.rest() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> OptionItem<Attest> {
        OptionItem::<Attest>::parse(text).expect("well formed")
    }

    fn wanted(texts: &[&str]) -> Attestations {
        let items: Vec<Attest> = texts.iter().map(|text| item(text).value).collect();
        Attestations::of(items.iter(), false)
    }

    #[test]
    fn the_default_is_kept_inline_only() {
        let default = wanted(&[]);
        assert!(default.provenance(false).is_none() && !default.is_explicit());
        assert_eq!(default.provenance(true).map(|it| it.mode), Some(ProvenanceMode::Min));
        let asked = wanted(&["type=provenance"]);
        assert_eq!(asked.provenance(false).map(|it| it.mode), Some(ProvenanceMode::Max));
        assert!(asked.is_explicit());
        assert!(wanted(&["type=provenance,disabled=true"]).provenance(true).is_none());
        assert!(Attestations::of([].iter(), true).provenance(true).is_none());
        assert!(wanted(&["type=sbom"]).is_explicit() && !wanted(&["type=sbom,disabled=true"]).is_explicit());
    }

    #[test]
    fn bad_options_are_named() {
        let faults = |text: &str| {
            let item = item(text);
            item.faults.iter().chain(&item.unknown).map(|fault| fault.message.clone()).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(faults("type=provenance,mode=huge"), "provenance: `mode` is neither min nor max: huge");
        assert_eq!(faults("type=provenance,version=v9"), "provenance: `version` is neither v1 nor v0.2: v9");
        assert_eq!(faults("type=provenance,filename=../x"), "provenance: `filename` is a path: ../x");
        assert_eq!(faults("type=provenance,mod=max"), "type `provenance` has no such option: mod");
        assert_eq!(faults("type=slsa"), "not an attestation type: slsa");
        assert_eq!(faults("type=provenance,mode=min,inline-only=true"), "");
    }
}
