//! Exporters: the options of one output, checked and typed, for those who write it (spec: exporters §2).
//!
//! `--print` shows an [`Output`] as written; a build asks for its [`Exporter`].

use std::collections::BTreeMap;

use super::{Annotation, Fault, Output, annotation::Level, boolean};
use crate::{oci::Platform, report::suggest};

/// Who writes the result and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exporter {
    /// An image in a registry or in the store of images.
    Image(ImageExporter),
    /// An OCI or Docker archive or layout directory.
    Archive(ArchiveExporter),
    /// The files of the result as a directory or a tar file.
    Files(FilesExporter),
    /// Nothing is written.
    CacheOnly,
}

/// How layers are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Compression {
    Uncompressed,
    #[default]
    Gzip,
    Estargz,
    Zstd,
}

/// Options of all exporters of images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageOptions {
    /// `name=`, used when the target has no tags.
    pub(crate) names: Vec<String>,
    pub(crate) compression: Compression,
    pub(crate) level: Option<i32>,
    pub(crate) force_compression: bool,
    pub(crate) oci_mediatypes: bool,
    pub(crate) oci_artifact: Option<bool>,
    pub(crate) attestation_inline: Option<bool>,
    pub(crate) prefer_nondist_layers: bool,
    pub(crate) rewrite_timestamp: bool,
    pub(crate) source_date_epoch: Option<i64>,
    /// `annotation-TYPE[PLATFORM].KEY=VALUE`.
    pub(crate) annotations: Vec<Annotation>,
}

/// `type=image` and `type=registry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageExporter {
    pub(crate) image: ImageOptions,
    pub(crate) push: bool,
    pub(crate) push_by_digest: bool,
    /// `registry.insecure`.
    pub(crate) insecure: bool,
    pub(crate) name_canonical: bool,
    pub(crate) unpack: bool,
    pub(crate) store: bool,
    pub(crate) dangling_name_prefix: Option<String>,
    pub(crate) dangling_name_empty_only: bool,
}

/// The two families of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveKind {
    Oci,
    Docker,
}

/// `type=oci` and `type=docker`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArchiveExporter {
    pub(crate) kind: ArchiveKind,
    pub(crate) image: ImageOptions,
    /// A file, or else a layout directory.
    pub(crate) tar: bool,
    /// `None` is loading into a daemon; only for `docker` with `tar`.
    pub(crate) dest: Option<Dest>,
    /// Docker context to load into.
    pub(crate) context: Option<String>,
}

/// `type=local` and `type=tar`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilesExporter {
    /// One tar file, or else a directory.
    pub(crate) tar: bool,
    pub(crate) dest: Dest,
    pub(crate) attestation_prefix: String,
    /// `None`: one directory per platform if there are several.
    pub(crate) platform_split: Option<bool>,
    /// Afterwards the directory holds nothing else.
    pub(crate) delete: bool,
    pub(crate) source_date_epoch: Option<i64>,
}

/// Where a file goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dest {
    Stdout,
    Path(String),
}

const TYPES: [&str; 7] = ["image", "registry", "local", "tar", "oci", "docker", "cacheonly"];
const IMAGE_KEYS: [&str; 13] = [
    "name",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "oci-artifact",
    "attestation-inline",
    "prefer-nondist-layers",
    "rewrite-timestamp",
    "source-date-epoch",
    "buildinfo",
    "buildinfo-attrs",
    "compatibility-version",
];
const PUSH_KEYS: [&str; 9] = [
    "push",
    "push-by-digest",
    "registry.insecure",
    "name-canonical",
    "unpack",
    "store",
    "dangling-name-prefix",
    "danging-name-empty-only",
    "dangling-name-empty-only",
];
const FILES_KEYS: [&str; 4] = ["attestation-prefix", "platform-split", "mode", "source-date-epoch"];

impl Exporter {
    /// Reads the options of an output.
    ///
    /// # Errors
    /// On an unknown type or option, a bad value, options that exclude each other, or a `dest` that is missing or makes
    /// no sense.
    pub(crate) fn parse(output: &Output) -> Result<Self, Fault> {
        let options = Options { kind: &output.kind, attrs: &output.attrs };
        match output.kind.as_str() {
            "image" | "registry" => {
                options.only(&[&IMAGE_KEYS, &PUSH_KEYS])?;
                if let Some(dest) = &output.dest {
                    return Err(Fault::new(format!("an output of type `{}` has no `dest`: {dest}", output.kind))
                        .help("name the image by `tags` or `name=`; to write a file use type=oci or type=docker"));
                }
                options.image_exporter().map(Self::Image)
            }
            "oci" | "docker" => {
                options.only(&[&IMAGE_KEYS, &["tar", "context", "store", "push", "unpack"]])?;
                options.archive(output).map(Self::Archive)
            }
            "local" | "tar" => {
                options.only(&[&FILES_KEYS])?;
                options.files(output).map(Self::Files)
            }
            "cacheonly" => Ok(Self::CacheOnly),
            other => {
                let help = suggest::did_you_mean(other, TYPES).unwrap_or_else(|| format!("known types: {}", TYPES.join(", ")));
                Err(Fault::new(format!("not an output type: {other}")).help(help))
            }
        }
    }
}

/// What can be said of `dest` without looking at the disk; asked for `--print` as well.
pub(crate) fn dest_fault(output: &Output) -> Option<Fault> {
    let dest = output.dest.as_deref().filter(|it| !it.is_empty());
    match (output.kind.as_str(), dest) {
        ("local", None) => {
            Some(Fault::new("an output of type `local` wants a `dest`").help("write type=local,dest=DIRECTORY"))
        }
        ("local", Some("-")) => Some(
            Fault::new("the `dest` of an output of type `local` cannot be stdout: -").help("write type=tar,dest=- for a tar stream"),
        ),
        ("oci" | "docker", Some("-")) if !is_tar(output) => Some(
            Fault::new(format!("an output of type `{}` with tar=false is a directory, not stdout: -", output.kind))
                .help("give a directory, or drop tar=false"),
        ),
        ("oci", None) if !is_tar(output) => {
            Some(Fault::new("an output of type `oci` with tar=false wants a `dest`").help("write type=oci,tar=false,dest=DIRECTORY"))
        }
        _ => None,
    }
}

/// What an output writes on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes<'a> {
    Nothing,
    Stdout,
    File(&'a str),
    Directory(&'a str),
}

/// What the output will write here; for a bad output `Nothing`.
pub(crate) fn writes(output: &Output) -> Writes<'_> {
    let dest = output.dest.as_deref().filter(|it| !it.is_empty());
    match (output.kind.as_str(), dest) {
        ("local", Some(dest)) if dest != "-" => Writes::Directory(dest),
        ("oci" | "docker", Some(dest)) if !is_tar(output) => Writes::Directory(dest),
        ("tar" | "oci", None) => Writes::Stdout,
        ("tar" | "oci" | "docker", Some("-")) => Writes::Stdout,
        ("tar" | "oci" | "docker", Some(dest)) => Writes::File(dest),
        _ => Writes::Nothing,
    }
}

fn is_tar(output: &Output) -> bool {
    output.attrs.get("tar").is_none_or(|text| boolean(text).unwrap_or(true))
}

/// The options of one output while they are read.
struct Options<'a> {
    kind: &'a str,
    attrs: &'a BTreeMap<String, String>,
}

impl Options<'_> {
    /// Refuses unknown keys.
    fn only(&self, known: &[&[&'static str]]) -> Result<(), Fault> {
        let takes_annotations = known.iter().any(|keys| keys.contains(&"compression"));
        let known: Vec<&str> = known.iter().flat_map(|it| it.iter().copied()).collect();
        for key in self.attrs.keys() {
            if known.contains(&key.as_str()) || (takes_annotations && key.starts_with("annotation")) {
                continue;
            }
            let help = suggest::did_you_mean(key, known.iter().copied())
                .unwrap_or_else(|| format!("known options: {}", known.join(", ")));
            return Err(Fault::new(format!("an output of type `{}` has no option: {key}", self.kind)).help(help));
        }
        Ok(())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.attrs.get(key).map(String::as_str)
    }

    /// A boolean; the empty value is true.
    fn flag(&self, key: &str) -> Result<Option<bool>, Fault> {
        match self.text(key) {
            None => Ok(None),
            Some("") => Ok(Some(true)),
            Some(text) => boolean(text)
                .map(Some)
                .map_err(|_| Fault::new(format!("`{key}` is not a boolean: {text}")).help("write true or false")),
        }
    }

    fn epoch(&self) -> Result<Option<i64>, Fault> {
        match self.text("source-date-epoch") {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Fault::new(format!("`source-date-epoch` is not a whole number of seconds: {text}"))
            }),
        }
    }

    fn compression(&self) -> Result<(Compression, Option<i32>), Fault> {
        let compression = match self.text("compression") {
            None | Some("" | "gzip") => Compression::Gzip,
            Some("uncompressed") => Compression::Uncompressed,
            Some("estargz") => Compression::Estargz,
            Some("zstd") => Compression::Zstd,
            Some(other) => {
                let known = ["uncompressed", "gzip", "estargz", "zstd"];
                let help = suggest::did_you_mean(other, known).unwrap_or_else(|| format!("known compressions: {}", known.join(", ")));
                return Err(Fault::new(format!("`compression` is not known: {other}")).help(help));
            }
        };
        let Some(text) = self.text("compression-level") else { return Ok((compression, None)) };
        let range = match compression {
            Compression::Uncompressed => {
                return Err(Fault::new(format!("`compression-level` does not go with compression=uncompressed: {text}")));
            }
            Compression::Gzip | Compression::Estargz => -2..=9,
            Compression::Zstd => 0..=22,
        };
        let level = text.parse::<i32>().ok().filter(|level| range.contains(level));
        level.map(|it| (compression, Some(it))).ok_or_else(|| {
            Fault::new(format!("`compression-level` is not a level: {text}"))
                .help(format!("this compression has the levels {} to {}", range.start(), range.end()))
        })
    }

    fn annotations(&self) -> Result<Vec<Annotation>, Fault> {
        let mut all = Vec::new();
        for (name, value) in self.attrs.iter().filter(|(key, _)| key.starts_with("annotation")) {
            let bad = || {
                Fault::new(format!("not an annotation option: {name}"))
                    .help("write annotation.KEY=VALUE or annotation-TYPE[PLATFORM].KEY=VALUE")
            };
            let rest = name.strip_prefix("annotation").ok_or_else(bad)?;
            let (place, key) = rest.split_once('.').filter(|(place, _)| !place.contains('[') || place.contains(']')).ok_or_else(bad)?;
            let place = if place.is_empty() { "manifest".to_owned() } else { place.strip_prefix('-').map_or_else(|| format!("manifest{place}"), str::to_owned) };
            all.push(Annotation::parse(&format!("{place}:{key}={value}"))?);
        }
        Ok(all)
    }

    fn image(&self, oci_always: bool) -> Result<ImageOptions, Fault> {
        let (compression, level) = self.compression()?;
        let oci_mediatypes = oci_always || self.flag("oci-mediatypes")?.unwrap_or(true);
        let oci_artifact = self.flag("oci-artifact")?;
        let annotations = self.annotations()?;
        let conflict = |with: &str| {
            Err(Fault::new(format!("`oci-mediatypes=false` does not go with {with}")).help("drop one of the two"))
        };
        if !oci_mediatypes && compression == Compression::Estargz {
            return conflict("`compression=estargz`");
        }
        if !oci_mediatypes && oci_artifact == Some(true) {
            return conflict("`oci-artifact=true`");
        }
        if !oci_mediatypes && annotations.iter().any(|it| it.levels.iter().any(|(level, _)| *level != Level::Manifest)) {
            return conflict("annotations of an index or a descriptor");
        }
        let names = self.text("name").unwrap_or_default();
        Ok(ImageOptions {
            names: names.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect(),
            compression,
            level,
            force_compression: self.flag("force-compression")?.unwrap_or(false),
            oci_mediatypes,
            oci_artifact,
            attestation_inline: self.flag("attestation-inline")?,
            prefer_nondist_layers: self.flag("prefer-nondist-layers")?.unwrap_or(false),
            rewrite_timestamp: self.flag("rewrite-timestamp")?.unwrap_or(false),
            source_date_epoch: self.epoch()?,
            annotations,
        })
    }

    fn image_exporter(&self) -> Result<ImageExporter, Fault> {
        let registry = self.kind == "registry";
        let exporter = ImageExporter {
            image: self.image(false)?,
            push: self.flag("push")?.unwrap_or(registry),
            push_by_digest: self.flag("push-by-digest")?.unwrap_or(false),
            insecure: self.flag("registry.insecure")?.unwrap_or(false),
            name_canonical: self.flag("name-canonical")?.unwrap_or(false),
            unpack: self.flag("unpack")?.unwrap_or(false),
            store: self.flag("store")?.unwrap_or(true),
            dangling_name_prefix: self.text("dangling-name-prefix").map(str::to_owned),
            dangling_name_empty_only: self.flag("danging-name-empty-only")?.or(self.flag("dangling-name-empty-only")?).unwrap_or(false),
        };
        if exporter.unpack && exporter.image.rewrite_timestamp {
            return Err(Fault::new("`rewrite-timestamp=true` does not go with `unpack=true`").help("drop one of the two"));
        }
        Ok(exporter)
    }

    fn archive(&self, output: &Output) -> Result<ArchiveExporter, Fault> {
        let kind = if output.kind == "oci" { ArchiveKind::Oci } else { ArchiveKind::Docker };
        let tar = self.flag("tar")?.unwrap_or(true);
        if let Some(fault) = dest_fault(output) {
            return Err(fault);
        }
        let dest = match output.dest.as_deref() {
            Some("-") => Some(Dest::Stdout),
            None | Some("") if kind == ArchiveKind::Oci => Some(Dest::Stdout),
            None | Some("") => None,
            Some(path) => Some(Dest::Path(path.to_owned())),
        };
        if dest.is_none() && !tar {
            return Err(Fault::new("an output of type `docker` with tar=false wants a `dest`").help("write type=docker,tar=false,dest=DIRECTORY"));
        }
        Ok(ArchiveExporter { kind, image: self.image(kind == ArchiveKind::Oci)?, tar, dest, context: self.text("context").map(str::to_owned) })
    }

    fn files(&self, output: &Output) -> Result<FilesExporter, Fault> {
        if let Some(fault) = dest_fault(output) {
            return Err(fault);
        }
        let delete = match self.text("mode") {
            None | Some("" | "copy") => false,
            Some("delete") if self.kind == "local" => true,
            Some(other) => {
                return Err(Fault::new(format!("`mode` is not known for type `{}`: {other}", self.kind)).help("write mode=copy or, for type=local, mode=delete"));
            }
        };
        let dest = match output.dest.as_deref() {
            None | Some("" | "-") => Dest::Stdout,
            Some(path) => Dest::Path(path.to_owned()),
        };
        Ok(FilesExporter {
            tar: self.kind == "tar",
            dest,
            attestation_prefix: self.text("attestation-prefix").unwrap_or_default().to_owned(),
            platform_split: self.flag("platform-split")?,
            delete,
            source_date_epoch: self.epoch()?,
        })
    }
}

impl ImageOptions {
    /// The annotations that apply to a platform, or to the index when `None`.
    pub(crate) fn annotations_at(&self, level: Level, platform: Option<&Platform>) -> impl Iterator<Item = &Annotation> {
        let platform = platform.cloned();
        self.annotations.iter().filter(move |it| {
            it.levels.iter().any(|(at, only)| *at == level && only.as_ref().is_none_or(|only| Some(only) == platform.as_ref()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Exporter, String> {
        Exporter::parse(&Output::parse(text).expect("a well-formed output")).map_err(|fault| fault.message)
    }

    #[test]
    fn good_outputs_are_typed() {
        assert_eq!(check("type=cacheonly"), Ok(Exporter::CacheOnly));
        let Ok(Exporter::Image(image)) = check("type=registry,name=a,compression=zstd,compression-level=3") else {
            panic!("an image")
        };
        assert!(image.push && image.image.level == Some(3) && image.image.names == ["a"]);
        let Ok(Exporter::Archive(docker)) = check("type=docker") else { panic!("an archive") };
        assert_eq!(docker.dest, None);
        let Ok(Exporter::Image(image)) = check("type=image,annotation-index.a.b=c,annotation[linux/amd64].d=e") else {
            panic!("an image")
        };
        assert_eq!(image.image.annotations.len(), 2);
    }

    #[test]
    fn bad_outputs_name_the_option() {
        let bad = |text: &str, expected: &str| assert_eq!(check(text).expect_err(text), expected);
        bad("type=oci,dest=x,compression=rar", "`compression` is not known: rar");
        bad("type=oci,dest=x,compression-level=ninety", "`compression-level` is not a level: ninety");
        bad("type=teleport,dest=x", "not an output type: teleport");
        bad("type=image,dest=x", "an output of type `image` has no `dest`: x");
        bad("type=local,dest=x,compresion=zstd", "an output of type `local` has no option: compresion");
        bad("type=image,push=perhaps", "`push` is not a boolean: perhaps");
        bad("type=local,dest=-", "the `dest` of an output of type `local` cannot be stdout: -");
        bad("type=image,oci-mediatypes=false,compression=estargz", "`oci-mediatypes=false` does not go with `compression=estargz`");
        bad("type=local,dest=x,mode=move", "`mode` is not known for type `local`: move");
    }
}
