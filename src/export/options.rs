//! The options of an output, checked before its build starts: names, values, conflicts, destination.
//!
//! Text in, [`ExportPlan`] out, and a diagnostic for each fault. Of the disk only the kind of the destination is looked at.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use super::{
    annotation::{self, Annotation, Level},
    attest::{self, Statements},
    request::{ExportedOutput, Subject},
};
use crate::{
    grant,
    oci::{Reference, reference::BadReference},
    report::{Diagnostic, Span, suggest},
};

const IMAGE: &[&str] = &[
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
];
const PUSH: &[&str] = &[
    "push",
    "push-by-digest",
    "registry.insecure",
    "name-canonical",
    "unpack",
    "store",
    "dangling-name-prefix",
    "danging-name-empty-only",
];
const ARCHIVE: &[&str] = &["tar", "dest"];
const TREE: &[&str] = &["dest", "attestation-prefix", "platform-split", "source-date-epoch"];
const TYPES: &[&str] = &["image", "registry", "local", "tar", "oci", "docker", "cacheonly"];

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Codec {
    Uncompressed,
    Gzip,
    Estargz,
    Zstd,
}

const CODECS: &[(&str, Codec)] =
    &[("uncompressed", Codec::Uncompressed), ("gzip", Codec::Gzip), ("estargz", Codec::Estargz), ("zstd", Codec::Zstd)];

/// The codec of a name.
pub(super) fn codec_named(name: &str) -> Option<Codec> {
    CODECS.iter().find(|(it, _)| *it == name).map(|(_, codec)| *codec)
}

impl Codec {
    pub(super) fn name(self) -> &'static str {
        CODECS.iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }
}

/// What `source-date-epoch` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExportEpoch {
    /// Nothing: that of the build.
    Build,
    /// Empty: none, even if the build has one.
    Unset,
    At(i64),
}

impl ExportEpoch {
    /// The epoch of a build's export.
    pub(super) const fn of(self, build: Option<i64>) -> Option<i64> {
        match self {
            Self::Build => build,
            Self::Unset => None,
            Self::At(epoch) => Some(epoch),
        }
    }
}

/// An output, understood.
#[derive(Clone, Debug)]
pub(super) enum ExportPlan {
    Nothing,
    Image(ImagePlan, ImageTo),
    Tree(TreePlan, TreeTo),
}

/// How an image is made.
#[derive(Clone, Debug)]
pub(super) struct ImagePlan {
    /// As they are written for this exporter: see §1.2.
    pub(super) names: Vec<Reference>,
    pub(super) codec: Codec,
    pub(super) level: Option<i32>,
    pub(super) force: bool,
    pub(super) docker_types: bool,
    pub(super) oci_artifact: bool,
    pub(super) keep_nondist: bool,
    pub(super) rewrite: bool,
    pub(super) epoch: ExportEpoch,
    pub(super) annotations: Vec<Annotation>,
    pub(super) statements: Statements,
    /// More than one platform, attestations, or asked for.
    pub(super) index: bool,
}

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ImageTo {
    /// Made and kept in our own store.
    Store,
    Registry {
        by_digest: bool,
        insecure: bool,
    },
    Archive {
        docker: bool,
        dest: ArchiveDest,
    },
    Layout {
        docker: bool,
        folder: PathBuf,
    },
    Daemon {
        context: Option<String>,
    },
}

/// How a tree is written.
#[derive(Clone, Debug)]
pub(super) struct TreePlan {
    /// One folder per platform.
    pub(super) split: bool,
    pub(super) epoch: ExportEpoch,
    pub(super) attestation_prefix: String,
    pub(super) statements: Statements,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TreeTo {
    Folder { folder: PathBuf, delete: bool, special: SpecialFiles },
    Archive { dest: ArchiveDest },
}

/// What a folder gets of files that give rights on this machine: device nodes, and regular files with the set-user-ID or
/// set-group-ID bit or with file capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpecialFiles {
    /// Devices are not made, files lose the bits and capabilities.
    Drop,
    Keep,
}

/// A file, or standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ArchiveDest {
    Stdout,
    File(PathBuf),
}

impl ExportPlan {
    /// The path on this machine that is written.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self.dest()? {
            ArchiveDest::Stdout => None,
            ArchiveDest::File(path) => Some(path),
        }
    }

    /// What is written on this machine, for finding two outputs that collide.
    pub(super) fn dest(&self) -> Option<ArchiveDest> {
        match self {
            Self::Nothing => None,
            Self::Image(_, ImageTo::Archive { dest, .. }) | Self::Tree(_, TreeTo::Archive { dest }) => {
                Some(dest.clone())
            }
            Self::Image(_, ImageTo::Layout { folder, .. }) | Self::Tree(_, TreeTo::Folder { folder, .. }) => {
                Some(ArchiveDest::File(folder.clone()))
            }
            Self::Image(..) => None,
        }
    }

    /// Whether several exports into the same place add up.
    pub(super) const fn accumulates(&self) -> bool {
        matches!(self, Self::Image(_, ImageTo::Layout { .. }))
    }
}

/// Reads all options of an output.
pub(super) fn plan(
    output: &ExportedOutput,
    subject: &Subject,
) -> Result<(ExportPlan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut reader = OptionReader { output, subject, faults: Vec::new(), warnings: Vec::new() };
    let plan = reader.read();
    let OptionReader { faults, warnings, .. } = reader;
    match plan {
        Some(plan) if faults.is_empty() => Ok((plan, warnings)),
        _ => Err(faults),
    }
}

struct OptionReader<'a> {
    output: &'a ExportedOutput,
    subject: &'a Subject,
    faults: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl OptionReader<'_> {
    fn read(&mut self) -> Option<ExportPlan> {
        let known: Vec<&str> = match self.output.exporter.as_str() {
            "image" | "registry" => [IMAGE, PUSH].concat(),
            "oci" => [IMAGE, ARCHIVE].concat(),
            "docker" => [IMAGE, ARCHIVE, &["context"]].concat(),
            "local" => [TREE, &["mode", "special"]].concat(),
            "tar" => TREE.to_vec(),
            "cacheonly" => Vec::new(),
            other => {
                let help = suggest::did_you_mean(other, TYPES.iter().copied())
                    .unwrap_or_else(|| format!("known types: {}", TYPES.join(", ")));
                let message = format!("target `{}`: unknown type of output: {other}", self.subject.target);
                let fault = Diagnostic::error("bake::export::unknown_type", message).help(help);
                self.faults.push(at(fault, self.output.at, "this type"));
                return None;
            }
        };
        self.unknown(&known);
        match self.output.exporter.as_str() {
            "cacheonly" => Some(ExportPlan::Nothing),
            "local" | "tar" => self.tree(),
            _ => self.image(),
        }
    }

    fn unknown(&mut self, known: &[&str]) {
        let exporter = self.output.exporter.as_str();
        let image = !matches!(exporter, "local" | "tar" | "cacheonly");
        for option in &self.output.options {
            let key = option.key.as_str();
            if known.contains(&key) || image && annotation::parse_option(key, "").is_some() {
                continue;
            }
            let code = "bake::export::unknown_option";
            let message = self.about(&format!("there is no such option: {key}"));
            let help = if key == "dest" {
                format!("`{exporter}` writes no file; use type=oci,dest={} for an archive", option.value)
            } else {
                suggest::did_you_mean(key, known.iter().copied()).unwrap_or_else(|| match known {
                    [] => format!("`{exporter}` takes no options"),
                    known => format!("options of `{exporter}`: {}", known.join(", ")),
                })
            };
            let place = option.at.or(self.output.at);
            self.faults.push(at(Diagnostic::error(code, message).help(help), place, "this option"));
        }
    }

    fn image(&mut self) -> Option<ExportPlan> {
        let exporter = self.output.exporter.clone();
        let names = self.names();
        let codec = self.codec();
        let level = self.level(codec);
        let force = self.flag("force-compression", false);
        let oci_types = self.flag("oci-mediatypes", true);
        let oci_artifact = self.flag("oci-artifact", oci_types);
        let inline = self.flag("attestation-inline", matches!(exporter.as_str(), "image" | "registry"));
        let keep_nondist = self.flag("prefer-nondist-layers", false);
        let rewrite = self.flag("rewrite-timestamp", false);
        let epoch = self.epoch();
        for key in ["buildinfo", "buildinfo-attrs"] {
            if self.value(key).is_some() {
                let message = self.about(&format!("the option `{key}` has no effect any more"));
                self.warnings.push(Diagnostic::warning("bake::export::ignored_option", message));
            }
        }
        let docker = exporter == "docker";
        let (several, explicit) = (self.subject.platforms.len() > 1, attest::explicit(&self.subject.attest));
        let statements = self.statements(inline);
        let attested = !statements.is_empty();
        if !oci_types {
            if oci_artifact && self.value("oci-artifact").is_some() {
                self.conflict("oci-artifact", "oci-artifact=true", "oci-mediatypes=false");
            }
            if codec == Codec::Estargz {
                self.conflict("compression", "compression=estargz", "oci-mediatypes=false");
            }
            if attested && explicit {
                self.conflict("oci-mediatypes", "attestations", "oci-mediatypes=false");
            }
        }
        // The default provenance is dropped where it cannot be; what was asked for is a fault above.
        let statements = if oci_types { statements } else { Statements::default() };
        let index = several || !statements.is_empty() || self.subject.always_index;
        let annotations = self.annotations(index, oci_types);
        let to = match exporter.as_str() {
            "oci" | "docker" => self.archive(docker)?,
            _ => self.registry(exporter == "registry", &names)?,
        };
        let single = matches!(to, ImageTo::Archive { docker: true, .. } | ImageTo::Layout { docker: true, .. });
        if single && (several || explicit) {
            let what = if several { "several platforms (a manifest list)" } else { "attestations" };
            let message = self.about(&format!("a docker archive cannot hold {what}"));
            let fault = Diagnostic::error("bake::export::docker_single", message);
            self.fault(fault.help("use type=oci"), self.output.at, "this output");
        }
        let unpack = self.flag("unpack", false);
        if rewrite && unpack {
            self.conflict("rewrite-timestamp", "rewrite-timestamp=true", "unpack=true");
        }
        let statements = if single { Statements::default() } else { statements };
        let plan = ImagePlan {
            names,
            codec,
            level,
            force,
            docker_types: !oci_types,
            oci_artifact: oci_artifact && oci_types,
            keep_nondist,
            rewrite,
            epoch,
            annotations,
            index: index && !single,
            statements,
        };
        Some(ExportPlan::Image(plan, to))
    }

    fn registry(&mut self, alias: bool, names: &[Reference]) -> Option<ImageTo> {
        let push = self.flag("push", alias);
        let by_digest = self.flag("push-by-digest", false);
        let insecure = self.flag("registry.insecure", false);
        for key in ["name-canonical", "store", "danging-name-empty-only"] {
            self.flag(key, false);
        }
        if !push {
            return Some(ImageTo::Store);
        }
        if names.is_empty() && self.names_given().is_empty() {
            let message = self.about("a tag is needed when pushing");
            let help = "add tags = [\"registry/name:tag\"] to the target, or name= to the output";
            self.fault(Diagnostic::error("bake::export::no_tag", message).help(help), self.output.at, "this output");
        }
        if by_digest {
            for name in names.iter().filter(|it| it.tag.is_some()) {
                let message = self.about(&format!("can't push tagged ref by digest: {}", name.familiar()));
                let fault = Diagnostic::error("bake::export::tag_by_digest", message);
                let help = format!("write {} or drop push-by-digest", name.familiar_name());
                self.fault(fault.help(help), self.at("push-by-digest"), "this option");
            }
        }
        Some(ImageTo::Registry { by_digest, insecure })
    }

    fn archive(&mut self, docker: bool) -> Option<ImageTo> {
        let tar = self.flag("tar", true);
        let dest = self.value("dest").map(str::to_owned).filter(|it| !it.is_empty());
        let context = self.value("context").map(str::to_owned).filter(|it| !it.is_empty());
        if !tar {
            let Some(dest) = dest.filter(|it| it != "-") else {
                let message = self.about("tar=false writes a directory: a `dest` is needed");
                let fault = Diagnostic::error("bake::export::no_dest", message).help("add dest=DIRECTORY");
                self.fault(fault, self.at("tar"), "this option");
                return None;
            };
            return Some(ImageTo::Layout { docker, folder: self.folder(&dest)? });
        }
        if docker && dest.is_none() {
            return Some(ImageTo::Daemon { context });
        }
        Some(ImageTo::Archive { docker, dest: self.file(dest.as_deref())? })
    }

    fn tree(&mut self) -> Option<ExportPlan> {
        let several = self.subject.platforms.len() > 1;
        let local = self.output.exporter == "local";
        let split = self.flag("platform-split", several);
        let epoch = self.epoch();
        let statements = self.statements(false);
        let attestation_prefix = self.value("attestation-prefix").unwrap_or_default().to_owned();
        if attestation_prefix.contains('/') {
            let message = self.about(&format!("attestation-prefix cannot hold a slash: {attestation_prefix}"));
            self.fault(bad_value(message), self.at("attestation-prefix"), "this value");
        }
        // A tar of several platforms always has a folder for each.
        let split = split || !local && several;
        let plan = TreePlan { split, epoch, attestation_prefix, statements };
        let dest = self.value("dest").map(str::to_owned).filter(|it| !it.is_empty());
        if !local {
            return Some(ExportPlan::Tree(plan, TreeTo::Archive { dest: self.file(dest.as_deref())? }));
        }
        let delete = match self.value("mode") {
            None | Some("" | "copy") => false,
            Some("delete") => true,
            Some(other) => {
                let message = self.about(&format!("`mode` is neither copy nor delete: {other}"));
                self.fault(bad_value(message), self.at("mode"), "this value");
                false
            }
        };
        let special = match self.value("special") {
            None | Some("" | "drop") => SpecialFiles::Drop,
            Some("keep") => SpecialFiles::Keep,
            Some(other) => {
                let message = self.about(&format!("`special` is neither drop nor keep: {other}"));
                self.fault(bad_value(message), self.at("special"), "this value");
                SpecialFiles::Drop
            }
        };
        let Some(dest) = dest else {
            let fault = Diagnostic::error("bake::export::no_dest", self.about("a `dest` is needed"));
            self.fault(fault.help("add dest=DIRECTORY"), self.output.at, "this output");
            return None;
        };
        if dest == "-" {
            let fault = Diagnostic::error("bake::export::stdout", self.about("dest cannot be stdout"));
            self.fault(fault.help("use type=tar,dest=-"), self.at("dest"), "this value");
            return None;
        }
        Some(ExportPlan::Tree(plan, TreeTo::Folder { folder: self.folder(&dest)?, delete, special }))
    }

    /// `tags`, else `name=`; `name=*` stands for what a frontend names, and ours names nothing.
    fn names(&mut self) -> Vec<Reference> {
        let mut names: Vec<Reference> = Vec::new();
        for name in self.names_given() {
            match Reference::parse(&name) {
                Ok(reference) if !names.contains(&reference) => names.push(reference),
                Ok(_) => {}
                Err(BadReference { why, .. }) => {
                    let message = self.about(&format!("invalid tag: {name}"));
                    let place = if self.subject.tags.is_empty() { self.at("name") } else { self.output.at };
                    self.fault(Diagnostic::error("bake::export::bad_name", message).help(why), place, "this name");
                }
            }
        }
        names
    }

    fn names_given(&self) -> Vec<String> {
        if !self.subject.tags.is_empty() {
            return self.subject.tags.clone();
        }
        let names = self.value("name").unwrap_or_default().split(',').map(str::trim);
        names.filter(|it| !it.is_empty() && *it != "*").map(str::to_owned).collect()
    }

    fn codec(&mut self) -> Codec {
        let Some(value) = self.value("compression").map(str::to_owned) else { return Codec::Gzip };
        if let Some(codec) = codec_named(&value) {
            return codec;
        }
        let known: Vec<&str> = CODECS.iter().map(|(name, _)| *name).collect();
        let help = suggest::did_you_mean(&value, known.iter().copied())
            .unwrap_or_else(|| format!("known are {}", known.join(", ")));
        let message = self.about(&format!("unsupported compression type: {value}"));
        let fault = Diagnostic::error("bake::export::bad_value", message).help(help);
        self.fault(fault, self.at("compression"), "this value of `compression`");
        Codec::Gzip
    }

    fn level(&mut self, codec: Codec) -> Option<i32> {
        let value = self.value("compression-level").map(str::to_owned)?;
        if value.is_empty() {
            return None;
        }
        let range = match codec {
            Codec::Uncompressed => {
                let message = self.about("compression-level has no effect with compression=uncompressed");
                self.warnings.push(Diagnostic::warning("bake::export::ignored_option", message));
                i32::MIN..=i32::MAX
            }
            Codec::Gzip | Codec::Estargz => -2..=9,
            Codec::Zstd => 0..=22,
        };
        match value.parse::<i32>() {
            Ok(level) if range.contains(&level) => Some(level).filter(|_| codec != Codec::Uncompressed),
            Ok(_) => {
                let (low, high, codec) = (range.start(), range.end(), codec.name());
                let message = self.about(&format!("compression-level is out of range: {value}"));
                let fault = bad_value(message).help(format!("levels of {codec} go from {low} to {high}"));
                self.fault(fault, self.at("compression-level"), "this value");
                None
            }
            Err(_) => {
                let message = self.about(&format!("compression-level is not a whole number: {value}"));
                self.fault(bad_value(message), self.at("compression-level"), "this value");
                None
            }
        }
    }

    fn epoch(&mut self) -> ExportEpoch {
        match self.value("source-date-epoch").map(str::to_owned) {
            None => ExportEpoch::Build,
            Some(text) if text.is_empty() => ExportEpoch::Unset,
            Some(text) => match text.parse::<i64>() {
                // Years beyond 9999 cannot be written as RFC 3339.
                Ok(epoch) if (-62_135_596_800..=253_402_300_799).contains(&epoch) => ExportEpoch::At(epoch),
                _ => {
                    let message = self.about(&format!("source-date-epoch is not a number of seconds: {text}"));
                    self.fault(bad_value(message), self.at("source-date-epoch"), "this value");
                    ExportEpoch::Build
                }
            },
        }
    }

    fn annotations(&mut self, index: bool, oci_types: bool) -> Vec<Annotation> {
        let mut all: Vec<(Annotation, Option<Span>)> = Vec::new();
        let mut faults: Vec<(String, Option<Span>)> = Vec::new();
        for (text, place) in &self.subject.annotations {
            match annotation::parse(text) {
                Ok(parsed) => all.extend(parsed.into_iter().map(|it| (it, *place))),
                Err(why) => faults.push((why, *place)),
            }
        }
        for option in &self.output.options {
            match annotation::parse_option(&option.key, &option.value) {
                Some(Ok(parsed)) => all.push((parsed, option.at)),
                Some(Err(why)) => faults.push((why, option.at)),
                None => {}
            }
        }
        for (it, place) in &all {
            if let Some(platform) = it.platform.as_ref().filter(|it| !self.subject.platforms.contains(it)) {
                let built: Vec<String> = self.subject.platforms.iter().map(ToString::to_string).collect();
                faults.push((format!("no platform {platform} found in source, it has {}", built.join(", ")), *place));
            }
            if matches!(it.level, Level::Index | Level::IndexDescriptor) && !index {
                let why = "index annotations are not supported for a single platform: there is no index";
                faults.push((format!("{why}: {}", it.key), *place));
            }
            if it.level != Level::Manifest && !oci_types {
                faults
                    .push((format!("annotations beside the manifest's want oci-mediatypes=true: {}", it.key), *place));
            }
        }
        for (why, place) in faults {
            let fault = Diagnostic::error("bake::export::bad_annotation", self.about(&why));
            self.fault(fault, place.or(self.output.at), "this annotation");
        }
        all.into_iter().map(|(it, _)| it).collect()
    }

    fn statements(&mut self, inline: bool) -> Statements {
        match attest::statements(&self.subject.attest, inline) {
            Ok(statements) => statements,
            Err(why) => {
                let message = format!("target `{}`: {why}", self.subject.target);
                let place = self.subject.attest.provenance.as_ref().and_then(|it| it.at);
                self.fault(Diagnostic::error("bake::export::bad_attestation", message), place, "this attestation");
                Statements::default()
            }
        }
    }

    /// A boolean as Go reads them; empty is true.
    fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.value(key) {
            None => default,
            Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
            Some(other) => {
                let message = self.about(&format!("`{key}` is neither true nor false: {other}"));
                self.fault(bad_value(message), self.at(key), "this value");
                default
            }
        }
    }

    /// A file to write; `None` and `-` are stdout.
    fn file(&mut self, dest: Option<&str>) -> Option<ArchiveDest> {
        let Some(dest) = dest.filter(|it| *it != "-") else {
            if std::io::stdout().is_terminal() {
                let message = self.about("refusing to write to console");
                let fault = Diagnostic::error("bake::export::terminal", message);
                self.fault(fault.help("add dest=FILE, or redirect stdout"), self.output.at, "this output");
                return None;
            }
            return Some(ArchiveDest::Stdout);
        };
        let path = absolute(&self.subject.cwd, dest);
        if path.is_dir() {
            let message = self.about(&format!("destination file is a directory: {dest}"));
            self.fault(Diagnostic::error("bake::export::dest", message), self.at("dest"), "this path");
            return None;
        }
        self.parents(&path, dest)?;
        Some(ArchiveDest::File(path))
    }

    fn folder(&mut self, dest: &str) -> Option<PathBuf> {
        let path = absolute(&self.subject.cwd, dest);
        if path.exists() && !path.is_dir() {
            let message = self.about(&format!("destination directory is a file: {dest}"));
            self.fault(Diagnostic::error("bake::export::dest", message), self.at("dest"), "this path");
            return None;
        }
        self.parents(&path, dest)?;
        Some(path)
    }

    /// The nearest parent that exists must be a directory.
    fn parents(&mut self, path: &Path, dest: &str) -> Option<()> {
        let nearest = path.ancestors().skip(1).find(|it| it.exists());
        let Some(blocking) = nearest.filter(|it| !it.is_dir()) else { return Some(()) };
        let message = self.about(&format!("`{}` is a file, not a directory, in dest: {dest}", blocking.display()));
        self.fault(Diagnostic::error("bake::export::dest", message), self.at("dest"), "this path");
        None
    }

    fn conflict(&mut self, key: &str, one: &str, other: &str) {
        let message = self.about(&format!("{one} conflicts with {other}"));
        self.fault(Diagnostic::error("bake::export::conflict", message), self.at(key), "this option");
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.output.options.iter().rfind(|it| it.key == key).map(|it| it.value.as_str())
    }

    fn at(&self, key: &str) -> Option<Span> {
        self.output.options.iter().rfind(|it| it.key == key).and_then(|it| it.at).or(self.output.at)
    }

    fn about(&self, text: &str) -> String {
        format!("target `{}`, output `{}`: {text}", self.subject.target, self.output.exporter)
    }

    fn fault(&mut self, fault: Diagnostic, place: Option<Span>, label: &str) {
        self.faults.push(at(fault, place, label));
    }
}

fn bad_value(message: String) -> Diagnostic {
    Diagnostic::error("bake::export::bad_value", message)
}

fn at(fault: Diagnostic, place: Option<Span>, label: &str) -> Diagnostic {
    match place {
        Some(place) => fault.at(place, label),
        None => fault,
    }
}

/// Where a path really leads, as the kernel would find it; one that leads nowhere is only made absolute, and is refused
/// when it is granted.
pub(super) fn absolute(cwd: &Path, path: &str) -> PathBuf {
    grant::resolve(Path::new(path), cwd).map_or_else(|_| cwd.join(path), |found| found.path())
}
