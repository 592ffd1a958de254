//! `output`: which exporter writes the result, how, and where. One variant an exporter; an option is a field, read where
//! the value is made. What depends on the rest of the target (tags, platforms) is checked in `eval`, what depends on the
//! disk in `export`.

use std::collections::BTreeMap;

use super::{
    annotation::{self, Annotation},
    compression::LayerCompression,
    csv, engine_store,
    fault::OptionFault,
    local::{LocalAccess, LocalMode},
    options::{OptionItem, OptionReader, OptionTexts, from_csv, from_object, unknown_type},
};
use crate::oci::{Codec, Reference, reference::BadReference};

/// One output.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) enum Output {
    Image(ImageOutput),
    /// As `image`, pushed unless it says otherwise.
    Registry(ImageOutput),
    Oci(ArchiveOutput),
    Docker(DockerOutput),
    Local(LocalOutput),
    Tar(TarOutput),
    /// The build runs and nothing is written.
    Cacheonly(ResultSource),
    /// A type that this engine does not know.
    Unknown,
}

/// The option `source`: the stage of the Dockerfile whose result is exported. `None` is the stage that the target builds.
///
/// No part of a receipt's key: another stage is another build, which the key contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResultSource(pub(crate) Option<String>);

impl ResultSource {
    /// The name of the option.
    pub(crate) const OPTION: &'static str = "source";

    fn read(options: &mut OptionReader<'_>) -> Self {
        let stage = options.owned(Self::OPTION);
        if stage.is_some() {
            // Whether there is such a stage is known when the Dockerfile is read.
            options.judged_later(Self::OPTION);
        }
        Self(stage)
    }
}

/// Options of all images.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct ImageOptions {
    pub(crate) source: ResultSource,
    /// `name`, then `tag`, which mean the same. Not used if the target has tags.
    pub(crate) names: Vec<Reference>,
    pub(crate) compression: LayerCompression,
    /// Media types of OCI rather than of Docker.
    pub(crate) oci_mediatypes: bool,
    /// Attestation manifests are OCI artifacts.
    pub(crate) oci_artifact: bool,
    /// Export provenance with `inline-only=true` too, such as the one that is made by default.
    pub(crate) attestation_inline: bool,
    /// Keep the media types of layers that must not be distributed.
    pub(crate) prefer_nondist_layers: bool,
    /// In layers above the base image, times after the epoch become the epoch; no effect without one.
    pub(crate) rewrite_timestamp: bool,
    pub(crate) build_info: BuildInfoDetail,
    pub(crate) epoch: ExportEpoch,
    pub(crate) annotations: Vec<Annotation>,
}

/// How much of its build an image config describes, in the key `moby.buildkit.buildinfo.v0`: the options `buildinfo` and
/// `buildinfo-attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuildInfoDetail {
    Nothing,
    /// The frontend, and the sources with their digests.
    Sources,
    /// Also the attributes of the request: build arguments and labels with their values, but no secrets.
    Attributes,
}

impl BuildInfoDetail {
    fn read(options: &mut OptionReader<'_>) -> Self {
        const ATTRIBUTES: &str = "buildinfo-attrs";
        match (options.flag("buildinfo", true), options.flag(ATTRIBUTES, false)) {
            (true, false) => Self::Sources,
            (true, true) => Self::Attributes,
            (false, has_attributes) => {
                if has_attributes {
                    options.conflict(ATTRIBUTES, "buildinfo-attrs=true", "buildinfo=false");
                }
                Self::Nothing
            }
        }
    }
}

/// `image` and `registry`.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct ImageOutput {
    pub(crate) image: ImageOptions,
    pub(crate) push: bool,
    /// Under its digest alone, without tag.
    pub(crate) push_by_digest: bool,
    /// Certificates are not checked, plain HTTP is allowed.
    pub(crate) insecure: bool,
}

/// `oci`, and the archive of `docker`.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct ArchiveOutput {
    pub(crate) image: ImageOptions,
    pub(crate) form: ArchiveForm,
    /// Other outputs of the run that say the same may write to the same `dest`: it holds the images of all of them.
    pub(crate) append: bool,
    /// `None`: standard output, or for `docker` a container engine.
    pub(crate) dest: Option<OutputDest>,
}

/// Whether an image is one file or a layout folder: the option `tar`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveForm {
    Tar,
    Layout,
}

/// `docker`.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct DockerOutput {
    pub(crate) archive: ArchiveOutput,
    /// The Docker context into which an image without `dest` is loaded.
    pub(crate) context: Option<String>,
}

/// What `tar` and `local` have in common.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct TreeOutput {
    pub(crate) source: ResultSource,
    pub(crate) dest: Option<OutputDest>,
    /// What the names of attestation files begin with.
    pub(crate) attestation_prefix: String,
    /// One folder per platform; `None`: if there are several.
    pub(crate) platform_split: Option<bool>,
    pub(crate) epoch: ExportEpoch,
}

/// `tar`.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct TarOutput {
    pub(crate) tree: TreeOutput,
    pub(crate) extent: TreeExtent,
}

/// How much of the result an archive of type `tar` holds: the option `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TreeExtent {
    /// `max`: the whole file system.
    Whole,
    /// `min`: what the steps above the base image added or changed. What they deleted is not mentioned.
    Added,
}

/// `local`.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "unkeyed"), derive(PartialEq, Eq))]
pub(crate) struct LocalOutput {
    pub(crate) tree: TreeOutput,
    pub(crate) mode: LocalMode,
    pub(crate) access: LocalAccess,
}

/// `dest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutputDest {
    Stdout,
    /// Relative to the working directory.
    Path(String),
}

/// `source-date-epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExportEpoch {
    /// Not given: that of the build.
    Build,
    /// Empty: none, even if the build has one.
    Unset,
    /// Seconds since 1970.
    At(i64),
}

impl ExportEpoch {
    /// The epoch of a build's export.
    pub(crate) const fn of(self, build: Option<i64>) -> Option<i64> {
        match self {
            Self::Build => build,
            Self::Unset => None,
            Self::At(epoch) => Some(epoch),
        }
    }

    fn read(options: &mut OptionReader<'_>) -> Self {
        const KEY: &str = "source-date-epoch";
        match options.given(KEY) {
            None => Self::Build,
            Some("") => Self::Unset,
            Some(text) => match text.parse::<i64>() {
                // Years beyond 9999 cannot be written as RFC 3339.
                Ok(epoch) if (-62_135_596_800..=253_402_300_799).contains(&epoch) => Self::At(epoch),
                _ => {
                    options.bad(KEY, text, format!("source-date-epoch is not a number of seconds: {text}"), None);
                    Self::Build
                }
            },
        }
    }
}

pub(crate) const TYPES: &[&str] = &["image", "registry", "local", "tar", "oci", "docker", "cacheonly"];

impl OptionItem<Output> {
    /// Parses `type=T,dest=D,k=v…`, a lone path, or `-`.
    ///
    /// # Errors
    /// When `type` is missing or a field is not `key=value`.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        if let [only] = csv::fields(text)?.as_slice()
            && !only.trim_start().to_lowercase().starts_with("type=")
        {
            return lone(only);
        }
        from_texts(from_csv(text)?, text)
    }

    /// Parses the object form.
    ///
    /// # Errors
    /// When `type` is missing.
    pub(crate) fn from_entries(entries: &BTreeMap<String, String>) -> Result<Self, OptionFault> {
        from_texts(from_object(entries), "")
    }

    /// An output without options.
    pub(crate) fn of_type(name: &str) -> Self {
        of_pairs(&[("type", name)])
    }

    /// `type=image,push=true`.
    pub(crate) fn pushed_image() -> Self {
        of_pairs(&[("type", "image"), ("push", "true")])
    }

    /// The same output with another value of `push`.
    pub(crate) fn with_push(&self, push: bool) -> Self {
        self.with("push", push.to_string())
    }

    /// The same output with its path in another folder, as `moved` says.
    pub(crate) fn with_path(&self, moved: impl FnOnce(&str) -> String) -> Self {
        match self.texts().get("dest") {
            Some(path) if path != "-" => self.with("dest", moved(path)),
            _ => self.clone(),
        }
    }

    /// The type as written.
    pub(crate) fn exporter(&self) -> &str {
        self.texts().get("type").map_or("", String::as_str)
    }

    /// The option `dest` as written, if there is one.
    pub(crate) fn dest(&self) -> Option<&str> {
        self.texts().get("dest").map(String::as_str)
    }

    /// What can be said of `dest` without looking at the disk. The peer refuses such an output in `--print` as well.
    pub(crate) fn dest_fault(&self) -> Option<OptionFault> {
        match &self.value {
            Output::Local(local) if local.tree.dest.is_none() => Some(
                OptionFault::new("an output of type `local` wants a `dest`").help("write type=local,dest=DIRECTORY"),
            ),
            Output::Local(local) if local.tree.dest == Some(OutputDest::Stdout) => Some(
                OptionFault::new("the `dest` of an output of type `local` cannot be stdout: -")
                    .help("write type=tar,dest=- for a tar stream"),
            ),
            Output::Oci(archive) | Output::Docker(DockerOutput { archive, .. }) => self.layout_fault(archive),
            _ => None,
        }
    }

    fn layout_fault(&self, archive: &ArchiveOutput) -> Option<OptionFault> {
        let exporter = self.exporter();
        match (archive.form, &archive.dest) {
            (ArchiveForm::Layout, Some(OutputDest::Stdout)) => Some(
                OptionFault::new(format!(
                    "an output of type `{exporter}` with tar=false is a directory, not stdout: -"
                ))
                .help("give a directory, or drop tar=false"),
            ),
            (ArchiveForm::Tar, None) if archive.append && matches!(self.value, Output::Docker(_)) => Some(
                OptionFault::new(
                    "an output of type `docker` with append=true wants a `dest`: it is loaded without one",
                )
                .help("write type=docker,dest=FILE,append=true, or drop append=true"),
            ),
            (ArchiveForm::Layout, None) => Some(
                OptionFault::new(format!("an output of type `{exporter}` with tar=false wants a `dest`"))
                    .help(format!("write type={exporter},tar=false,dest=DIRECTORY")),
            ),
            _ => None,
        }
    }

    fn with(&self, key: &str, value: String) -> Self {
        let mut texts = self.texts().clone();
        texts.insert(key.to_owned(), value);
        self.reread(texts, Output::read)
    }
}

#[cfg(test)]
impl Output {
    /// The options of an output of this type.
    pub(crate) fn options(kind: &str) -> Vec<&'static str> {
        OptionItem::known(kind, Self::read)
    }
}

fn of_pairs(pairs: &[(&str, &str)]) -> OptionItem<Output> {
    let texts = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    OptionItem::read(texts.collect(), Output::read)
}

fn lone(text: &str) -> Result<OptionItem<Output>, OptionFault> {
    if text == "-" {
        return Ok(of_pairs(&[("type", "tar"), ("dest", "-")]));
    }
    if let Some((key, _)) = text.split_once('=')
        && !key.is_empty()
        && key.chars().all(|c| c.is_ascii_lowercase() || c == '-')
    {
        return Err(missing_type(text)
            .help(format!("write `type=local,{text}` for a directory; a path of this name is written `./{text}`")));
    }
    if text.is_empty() { Err(missing_type(text)) } else { Ok(of_pairs(&[("type", "local"), ("dest", text)])) }
}

fn from_texts(mut texts: OptionTexts, written: &str) -> Result<OptionItem<Output>, OptionFault> {
    if texts.get("type").is_none_or(String::is_empty) {
        return Err(missing_type(written));
    }
    if texts.get("dest").is_some_and(String::is_empty) {
        texts.remove("dest");
    }
    Ok(OptionItem::read(texts, Output::read))
}

fn missing_type(text: &str) -> OptionFault {
    let shown = if text.is_empty() { String::new() } else { format!(" in: {text}") };
    OptionFault::new(format!("`type` is missing{shown}"))
        .help("give a type: image, registry, local, tar, oci, docker or cacheonly")
}

impl Output {
    fn read(options: &mut OptionReader<'_>) -> Self {
        match options.kind() {
            "image" => Self::Image(ImageOutput::read(options, false)),
            "registry" => Self::Registry(ImageOutput::read(options, true)),
            "oci" => Self::Oci(ArchiveOutput::read(options)),
            "docker" => {
                let context = options.owned("context");
                Self::Docker(DockerOutput { archive: ArchiveOutput::read(options), context })
            }
            "local" => Self::Local(LocalOutput::read(options)),
            "tar" => Self::Tar(TarOutput::read(options)),
            "cacheonly" => Self::Cacheonly(ResultSource::read(options)),
            other => {
                options.open();
                options.fault(unknown_type(other, "unknown type of output", TYPES));
                Self::Unknown
            }
        }
    }

    /// The options of the image that is made, if it is one.
    pub(crate) const fn image(&self) -> Option<&ImageOptions> {
        match self {
            Self::Image(it) | Self::Registry(it) => Some(&it.image),
            Self::Oci(it) | Self::Docker(DockerOutput { archive: it, .. }) => Some(&it.image),
            Self::Local(_) | Self::Tar(_) | Self::Cacheonly(_) | Self::Unknown => None,
        }
    }

    /// The stage whose result is exported, if it is not the one that the target builds.
    pub(crate) fn source(&self) -> Option<&str> {
        let source = match self {
            Self::Image(it) | Self::Registry(it) => &it.image.source,
            Self::Oci(it) | Self::Docker(DockerOutput { archive: it, .. }) => &it.image.source,
            Self::Local(it) => &it.tree.source,
            Self::Tar(it) => &it.tree.source,
            Self::Cacheonly(source) => source,
            Self::Unknown => return None,
        };
        source.0.as_deref()
    }

    /// The archive or layout that it writes; `None` for one of another kind, and for an image that is loaded.
    pub(crate) fn archive(&self) -> Option<&ArchiveOutput> {
        match self {
            Self::Oci(archive) => Some(archive),
            Self::Docker(it) if it.archive.form == ArchiveForm::Layout || it.archive.dest.is_some() => {
                Some(&it.archive)
            }
            _ => None,
        }
    }

    /// What is written on this machine; nothing for an output that [`dest_fault`](OptionItem::dest_fault) refuses.
    pub(crate) fn writes(&self) -> Writes<'_> {
        match self {
            Self::Local(it) => folder(it.tree.dest.as_ref()),
            Self::Oci(it) | Self::Docker(DockerOutput { archive: it, .. }) if it.form == ArchiveForm::Layout => {
                folder(it.dest.as_ref())
            }
            Self::Docker(it) if it.archive.dest.is_none() => Writes::Nothing,
            Self::Oci(it) | Self::Docker(DockerOutput { archive: it, .. }) => file_or_stdout(it.dest.as_ref()),
            Self::Tar(it) => file_or_stdout(it.tree.dest.as_ref()),
            Self::Image(_) | Self::Registry(_) | Self::Cacheonly(_) | Self::Unknown => Writes::Nothing,
        }
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

fn folder(dest: Option<&OutputDest>) -> Writes<'_> {
    if let Some(OutputDest::Path(path)) = dest { Writes::Directory(path) } else { Writes::Nothing }
}

fn file_or_stdout(dest: Option<&OutputDest>) -> Writes<'_> {
    if let Some(OutputDest::Path(path)) = dest { Writes::File(path) } else { Writes::Stdout }
}

impl OutputDest {
    fn read(options: &mut OptionReader<'_>) -> Option<Self> {
        let dest = options.text("dest")?;
        Some(if dest == "-" { Self::Stdout } else { Self::Path(dest.to_owned()) })
    }
}

impl ImageOptions {
    /// `inline`: the default of `attestation-inline`.
    fn read(options: &mut OptionReader<'_>, inline: bool) -> Self {
        let (source, names) = (ResultSource::read(options), names(options));
        let compression = LayerCompression::read(options);
        let oci_mediatypes = options.flag("oci-mediatypes", true);
        let oci_artifact = options.given_flag("oci-artifact");
        let image = Self {
            source,
            names,
            oci_mediatypes,
            oci_artifact: oci_artifact.unwrap_or(true) && oci_mediatypes,
            attestation_inline: options.flag("attestation-inline", inline),
            prefer_nondist_layers: options.flag("prefer-nondist-layers", false),
            rewrite_timestamp: options.flag("rewrite-timestamp", false),
            build_info: BuildInfoDetail::read(options),
            epoch: ExportEpoch::read(options),
            annotations: annotation::read(options),
            compression,
        };
        if !oci_mediatypes {
            if oci_artifact == Some(true) {
                options.conflict("oci-artifact", "oci-artifact=true", "oci-mediatypes=false");
            }
            if image.compression.codec == Codec::Estargz {
                options.conflict("compression", "compression=estargz", "oci-mediatypes=false");
            }
        }
        image
    }
}

/// The names of `name` and then those of `tag`. `name=*` stands for what a frontend names, and ours names nothing.
fn names(options: &mut OptionReader<'_>) -> Vec<Reference> {
    let mut names: Vec<Reference> = Vec::new();
    for key in ["name", "tag"] {
        let Some(text) = options.text(key) else { continue };
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "*") {
            match Reference::parse(name) {
                Ok(reference) if !names.contains(&reference) => names.push(reference),
                Ok(_) => {}
                Err(BadReference { why, .. }) => {
                    options.bad(key, text, format!("invalid tag: {name}"), Some(why.to_owned()));
                }
            }
        }
    }
    names
}

impl ImageOutput {
    /// `push`: the default of `push`.
    fn read(options: &mut OptionReader<'_>, push: bool) -> Self {
        let image = ImageOptions::read(options, true);
        let (push, push_by_digest) = (options.flag("push", push), options.flag("push-by-digest", false));
        if engine_store::read(options, push && push_by_digest) && image.rewrite_timestamp {
            options.conflict("rewrite-timestamp", "rewrite-timestamp=true", "unpack=true");
        }
        Self { image, push, push_by_digest, insecure: options.flag("registry.insecure", false) }
    }
}

impl ArchiveOutput {
    fn read(options: &mut OptionReader<'_>) -> Self {
        let image = ImageOptions::read(options, false);
        let form = if options.flag("tar", true) { ArchiveForm::Tar } else { ArchiveForm::Layout };
        Self { image, form, append: options.flag("append", false), dest: OutputDest::read(options) }
    }
}

impl TreeOutput {
    fn read(options: &mut OptionReader<'_>) -> Self {
        let attestation_prefix = options.owned("attestation-prefix").unwrap_or_default();
        if attestation_prefix.contains('/') {
            let message = format!("attestation-prefix cannot hold a slash: {attestation_prefix}");
            options.bad("attestation-prefix", &attestation_prefix, message, None);
        }
        let dest = OutputDest::read(options);
        let platform_split = options.given_flag("platform-split");
        Self {
            source: ResultSource::read(options),
            dest,
            attestation_prefix,
            platform_split,
            epoch: ExportEpoch::read(options),
        }
    }
}

impl LocalOutput {
    fn read(options: &mut OptionReader<'_>) -> Self {
        Self { tree: TreeOutput::read(options), mode: LocalMode::read(options), access: LocalAccess::read(options) }
    }
}

impl TarOutput {
    fn read(options: &mut OptionReader<'_>) -> Self {
        const MODES: &[(&str, TreeExtent)] = &[("max", TreeExtent::Whole), ("min", TreeExtent::Added)];
        Self {
            tree: TreeOutput::read(options),
            extent: options.choice("mode", MODES, TreeExtent::Whole, "`mode` is neither min nor max"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_in_all_forms() {
        let print = |text: &str| {
            OptionItem::<Output>::parse(text)
                .map_or_else(|fault| fault.message, |it| serde_json::json!(it.texts()).to_string().replace('"', ""))
        };
        assert_eq!(print("type=image,\"name=a,b\",Push=true"), "{name:a,b,push:true,type:image}");
        assert_eq!(print("out/dir"), "{dest:out/dir,type:local}");
        assert_eq!(print("-"), "{dest:-,type:tar}");
        assert_eq!(print("dest=x"), "`type` is missing in: dest=x");
        assert_eq!(print("./a=b"), "{dest:./a=b,type:local}");
        assert_eq!(print("type=local,x"), "`x` is not `key=value` in: type=local,x");
        assert_eq!(print("type=oci,dest="), "{type:oci}");
    }

    #[test]
    fn what_a_build_refuses_is_kept_beside_the_text() {
        let faults = |text: &str| {
            let item = OptionItem::<Output>::parse(text).expect("well formed");
            let all = item.faults.iter().chain(&item.unknown);
            all.map(|fault| format!("{} ({})", fault.message, fault.part)).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(faults("type=ocii,x=y"), "unknown type of output: ocii (type=ocii)");
        assert_eq!(faults("type=oci,compression=zst"), "unsupported compression type: zst (compression=zst)");
        assert_eq!(
            faults("type=oci,compression-level=99"),
            "compression-level is out of range: 99 (compression-level=99)"
        );
        assert_eq!(faults("type=oci,compresion=zstd"), "type `oci` has no such option: compresion (compresion=zstd)");
        assert_eq!(
            faults("type=local,dest=a,mode=sideways"),
            "`mode` is neither copy nor delete: sideways (mode=sideways)"
        );
        assert_eq!(faults("type=image,name=UPPER/Case"), "invalid tag: UPPER/Case (name=UPPER/Case)");
        assert_eq!(
            faults("type=image,rewrite-timestamp=true,unpack="),
            "rewrite-timestamp=true conflicts with unpack=true (rewrite-timestamp=true)"
        );
        assert_eq!(faults("type=image,annotation-index.a=b,push=,store=1"), "");
        assert_eq!(
            faults("type=oci,buildinfo=false,buildinfo-attrs=1"),
            "buildinfo-attrs=true conflicts with buildinfo=false (buildinfo-attrs=1)"
        );
        assert_eq!(faults("type=cacheonly,source=x"), "");
        assert_eq!(faults("type=tar,mode=small"), "`mode` is neither min nor max: small (mode=small)");
    }

    #[test]
    fn tag_is_another_word_for_name() {
        let item = OptionItem::<Output>::parse("type=image,\"tag=a:1,b\",\"name=c,a:1\"").expect("well formed");
        let names: Vec<String> = item.value.image().expect("an image").names.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["c:latest", "a:1", "b:latest"]);
        let bad = OptionItem::<Output>::parse("type=oci,tag=UPPER").expect("well formed");
        assert_eq!(bad.faults[0].part, "tag=UPPER");
    }

    #[test]
    fn every_type_takes_a_source() {
        for kind in TYPES {
            let item = OptionItem::<Output>::parse(&format!("type={kind},source=builder")).expect("well formed");
            assert_eq!((item.value.source(), item.unknown.len()), (Some("builder"), 0), "{kind}");
            assert_eq!(item.place("source").map(|it| it.part.as_str()), Some("source=builder"), "{kind}");
        }
    }

    #[test]
    fn push_has_the_default_of_its_type() {
        let pushes = |text: &str| match OptionItem::<Output>::parse(text).expect("well formed").value {
            Output::Image(it) | Output::Registry(it) => it.push,
            _ => false,
        };
        assert!(pushes("type=registry") && pushes("type=image,push=") && pushes("type=image,push=1"));
        assert!(!pushes("type=image") && !pushes("type=image,push=0") && !pushes("type=registry,push=False"));
        assert!(matches!(OptionItem::<Output>::of_type("image").with_push(true).value, Output::Image(it) if it.push));
    }
}
