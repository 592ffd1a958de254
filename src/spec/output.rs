//! `output`: which exporter writes the result, how, and where. One variant an exporter; an option is a field, read where
//! the value is made. What depends on the rest of the target (tags, platforms) is checked in `eval`, what depends on the
//! disk in `export`.

use std::collections::BTreeMap;

use super::{
    OptionFault,
    annotation::{self, Annotation},
    compression::{Codec, LayerCompression},
    csv,
    options::{OptionItem, OptionReader, OptionTexts, from_csv, from_object, unknown_type},
};
use crate::oci::{Reference, reference::BadReference};

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Image(ImageOutput),
    /// As `image`, pushed unless it says otherwise.
    Registry(ImageOutput),
    Oci(ArchiveOutput),
    Docker(DockerOutput),
    Local(LocalOutput),
    Tar(TreeOutput),
    /// The build runs and nothing is written.
    Cacheonly,
    /// A type that this engine does not know.
    Unknown,
}

/// Options of all images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageOptions {
    /// `name`; the tags of the target count before them.
    pub(crate) names: Vec<Reference>,
    pub(crate) compression: LayerCompression,
    /// Media types of OCI rather than of Docker.
    pub(crate) oci_mediatypes: bool,
    /// Attestation manifests are OCI artifacts.
    pub(crate) oci_artifact: bool,
    /// Keep attestations that are inline only.
    pub(crate) attestation_inline: bool,
    /// Keep the media types of layers that must not be distributed.
    pub(crate) prefer_nondist_layers: bool,
    /// Times in layers are taken back to the epoch.
    pub(crate) rewrite_timestamp: bool,
    pub(crate) epoch: ExportEpoch,
    pub(crate) annotations: Vec<Annotation>,
}

/// `image` and `registry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageOutput {
    pub(crate) image: ImageOptions,
    pub(crate) push: bool,
    /// Under its digest alone, without tag.
    pub(crate) push_by_digest: bool,
    /// Certificates are not checked, plain HTTP is allowed.
    pub(crate) insecure: bool,
}

/// `oci`, and the archive of `docker`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArchiveOutput {
    pub(crate) image: ImageOptions,
    pub(crate) form: ArchiveForm,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DockerOutput {
    pub(crate) archive: ArchiveOutput,
    /// The Docker context into which an image without `dest` is loaded.
    pub(crate) context: Option<String>,
}

/// `tar`, and what `local` has in common with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TreeOutput {
    pub(crate) dest: Option<OutputDest>,
    /// What the names of attestation files begin with.
    pub(crate) attestation_prefix: String,
    /// One folder per platform; `None`: if there are several.
    pub(crate) platform_split: Option<bool>,
    pub(crate) epoch: ExportEpoch,
}

/// `local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalOutput {
    pub(crate) tree: TreeOutput,
    pub(crate) mode: LocalMode,
    pub(crate) special: SpecialFiles,
}

/// What happens to other files in the folder of a `local` output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalMode {
    Copy,
    Delete,
}

/// What a folder gets of files that give rights on this machine: device nodes, and regular files with the set-user-ID or
/// set-group-ID bit or with file capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpecialFiles {
    /// Devices are not made, files lose the bits and capabilities.
    Drop,
    Keep,
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

const TYPES: &[&str] = &["image", "registry", "local", "tar", "oci", "docker", "cacheonly"];

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
            "tar" => Self::Tar(TreeOutput::read(options)),
            "cacheonly" => Self::Cacheonly,
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
            Self::Local(_) | Self::Tar(_) | Self::Cacheonly | Self::Unknown => None,
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
            Self::Tar(it) => file_or_stdout(it.dest.as_ref()),
            Self::Image(_) | Self::Registry(_) | Self::Cacheonly | Self::Unknown => Writes::Nothing,
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
        let names = names(options);
        let compression = LayerCompression::read(options);
        let oci_mediatypes = options.flag("oci-mediatypes", true);
        let oci_artifact = options.given_flag("oci-artifact");
        let image = Self {
            names,
            oci_mediatypes,
            oci_artifact: oci_artifact.unwrap_or(true) && oci_mediatypes,
            attestation_inline: options.flag("attestation-inline", inline),
            prefer_nondist_layers: options.flag("prefer-nondist-layers", false),
            rewrite_timestamp: options.flag("rewrite-timestamp", false),
            epoch: ExportEpoch::read(options),
            annotations: annotation::read(options),
            compression,
        };
        for key in ["buildinfo", "buildinfo-attrs"] {
            if options.given(key).is_some() {
                options.note(key, format!("the option `{key}` has no effect any more"));
            }
        }
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

/// `name=*` stands for what a frontend names, and ours names nothing.
fn names(options: &mut OptionReader<'_>) -> Vec<Reference> {
    let mut names: Vec<Reference> = Vec::new();
    let Some(text) = options.text("name") else { return names };
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "*") {
        match Reference::parse(name) {
            Ok(reference) if !names.contains(&reference) => names.push(reference),
            Ok(_) => {}
            Err(BadReference { why, .. }) => {
                options.bad("name", text, format!("invalid tag: {name}"), Some(why.to_owned()));
            }
        }
    }
    names
}

impl ImageOutput {
    /// `push`: the default of `push`.
    fn read(options: &mut OptionReader<'_>, push: bool) -> Self {
        let image = ImageOptions::read(options, true);
        // These concern the image store of a container engine.
        for key in ["store", "name-canonical", "danging-name-empty-only"] {
            options.flag(key, false);
        }
        options.accepted(&["dangling-name-prefix"]);
        if options.flag("unpack", false) && image.rewrite_timestamp {
            options.conflict("rewrite-timestamp", "rewrite-timestamp=true", "unpack=true");
        }
        Self {
            image,
            push: options.flag("push", push),
            push_by_digest: options.flag("push-by-digest", false),
            insecure: options.flag("registry.insecure", false),
        }
    }
}

impl ArchiveOutput {
    fn read(options: &mut OptionReader<'_>) -> Self {
        let image = ImageOptions::read(options, false);
        let form = if options.flag("tar", true) { ArchiveForm::Tar } else { ArchiveForm::Layout };
        Self { image, form, dest: OutputDest::read(options) }
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
        Self { dest, attestation_prefix, platform_split, epoch: ExportEpoch::read(options) }
    }
}

impl LocalOutput {
    fn read(options: &mut OptionReader<'_>) -> Self {
        const MODES: &[(&str, LocalMode)] = &[("copy", LocalMode::Copy), ("delete", LocalMode::Delete)];
        const SPECIAL: &[(&str, SpecialFiles)] = &[("drop", SpecialFiles::Drop), ("keep", SpecialFiles::Keep)];
        Self {
            tree: TreeOutput::read(options),
            mode: options.choice("mode", MODES, LocalMode::Copy, "`mode` is neither copy nor delete"),
            special: options.choice("special", SPECIAL, SpecialFiles::Drop, "`special` is neither drop nor keep"),
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
        assert_eq!(faults("type=cacheonly"), "");
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
