//! OCI layout folders: `oci-layout`, `index.json`, `blobs/sha256/HEX`. Only read; `export` writes them.
//!
//! What is read is bounded and verified. A layout is untrusted: its files are opened beneath its folder, and a link that
//! leads out of it is refused.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    error::RegistryError,
    http::clean,
    image::{DEEPEST_INDEX, Document, LONGEST_DOCUMENT, ParsedDocument, RegistryImage, choose, digest_of, read_config},
};
use crate::{
    grant,
    oci::{Descriptor, Digest, Platform, Reference},
};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";

/// An OCI layout folder that images are read from (OCI image spec, image-layout.md).
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// For messages.
    folder: PathBuf,
    opened: Arc<OwnedFd>,
}

impl Layout {
    /// Opens a folder by its path without symbolic links, as a grant has it; `oci-layout` must be there.
    ///
    /// # Errors
    /// When the folder is not a layout, its version is not known, or a part of its path has become a link.
    pub(crate) fn open(folder: &Path) -> Result<Self, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            image_layout_version: String,
        }
        let opened = grant::open_real_dir(folder).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                RegistryError::Layout { folder: folder.to_owned(), why: "no such file or directory".to_owned() }
            }
            _ => RegistryError::File { action: "open", path: folder.to_owned(), source },
        })?;
        let layout = Self { folder: folder.to_owned(), opened: Arc::new(opened) };
        let bytes = layout.read("oci-layout")?;
        let version: Version = serde_json::from_slice(&bytes)
            .map_err(|e| layout.fault(format!("the file `oci-layout` cannot be read ({e})")))?;
        if !version.image_layout_version.starts_with("1.") {
            let version = clean(&version.image_layout_version);
            return Err(layout.fault(format!("the layout version is not supported: {version}")));
        }
        Ok(layout)
    }

    /// The document that a digest, a tag or the full name of an image names; with none of them, the only image, or else the
    /// one tagged `latest`. Of entries with one name the last counts.
    ///
    /// # Errors
    /// When there is none, or when images of several names have the tag: names the tags and names that are there.
    pub(crate) fn resolve(&self, tag: Option<&str>, digest: Option<&Digest>) -> Result<Document, RegistryError> {
        if let Some(digest) = digest {
            let known = self.entries()?.into_iter().find(|entry| digest_of(entry).is_ok_and(|it| it == *digest));
            let media_type = known.map(|it| it.media_type().to_string());
            return self.document(digest, media_type.as_deref());
        }
        let entries = self.entries()?;
        let mut named: Vec<&Descriptor> = entries.iter().filter(|it| has_tag(it, tag.unwrap_or("latest"))).collect();
        if let ([], None, [only]) = (named.as_slice(), tag, entries.as_slice()) {
            named.push(only);
        }
        let Some(found) = named.last() else {
            let listed = list(&names(&entries));
            let why = match tag {
                Some(tag) => format!("there is no image tagged `{}`; it has: {listed}", clean(tag)),
                None if entries.is_empty() => "`index.json` lists no image".to_owned(),
                None => format!("it holds {} images, none tagged `latest`; it has: {listed}", entries.len()),
            };
            return Err(self.name_fault(why, tag, &entries));
        };
        let other = named.iter().find(|it| {
            let names = (annotation(it, IMAGE_NAME), annotation(found, IMAGE_NAME));
            matches!(names, (Some(one), Some(other)) if one != other) && it.digest() != found.digest()
        });
        if other.is_some() {
            let tag = tag.unwrap_or("latest");
            let named: Vec<String> = named.iter().filter_map(|it| annotation(it, IMAGE_NAME)).map(familiar).collect();
            let why = format!("several images are tagged `{}`: {}", clean(tag), list(&named));
            return Err(self.name_fault(why, None, &entries));
        }
        let digest = digest_of(found).map_err(|why| self.fault(why))?;
        self.document(&digest, Some(found.media_type().as_ref()))
    }

    /// The document that a tag names for something other than an image, such as a cache: one whose entry has no name of an
    /// image, though an image may have the same tag. `None` if there is none.
    ///
    /// # Errors
    /// When the index or the document cannot be read.
    pub(crate) fn resolve_unnamed(&self, tag: &str) -> Result<Option<Document>, RegistryError> {
        let entries = self.entries()?;
        let is_named = |it: &Descriptor| it.annotations().as_ref().is_some_and(|all| all.contains_key(IMAGE_NAME));
        let Some(found) = entries.iter().rfind(|it| has_tag(it, tag) && !is_named(it)) else { return Ok(None) };
        let digest = digest_of(found).map_err(|why| self.fault(why))?;
        self.document(&digest, Some(found.media_type().as_ref())).map(Some)
    }

    /// Reads the image for a platform: index, manifest and config.
    ///
    /// # Errors
    /// As [`Layout::resolve`]; and when there is none for the platform, or a blob is damaged.
    pub(crate) fn image(
        &self,
        tag: Option<&str>,
        digest: Option<&Digest>,
        platform: &Platform,
    ) -> Result<RegistryImage, RegistryError> {
        let root = self.resolve(tag, digest)?;
        let mut manifest = root.clone();
        for _ in 0..DEEPEST_INDEX {
            match manifest.parse().map_err(|why| self.blob_fault(&manifest.digest, &why))? {
                ParsedDocument::Index(entries) => {
                    let chosen = choose(&entries, platform).map_err(|none| {
                        let has = if none.0.is_empty() { "none".to_owned() } else { none.0.join(", ") };
                        self.fault(format!("there is no image for the platform `{platform}`; it has {has}"))
                    })?;
                    let digest = digest_of(chosen).map_err(|why| self.blob_fault(&manifest.digest, &why))?;
                    manifest = self.document(&digest, Some(chosen.media_type().as_ref()))?;
                }
                ParsedDocument::Manifest { config, layers } => {
                    let digest = digest_of(&config).map_err(|why| self.blob_fault(&manifest.digest, &why))?;
                    let bytes = self.small_blob(&digest)?;
                    let config = read_config(&bytes, &layers).map_err(|why| self.blob_fault(&digest, &why))?;
                    return Ok(RegistryImage { root, manifest, config, layers });
                }
            }
        }
        Err(self.fault(format!("more than {DEEPEST_INDEX} indexes lie within each other")))
    }

    /// Copies a blob to `out`, verifying size and digest: an error means that `out` must be thrown away.
    ///
    /// # Errors
    /// When it is absent, damaged, or cannot be written.
    pub(crate) fn copy_blob(&self, descriptor: &Descriptor, out: &mut dyn io::Write) -> Result<(), RegistryError> {
        let digest = digest_of(descriptor).map_err(|why| self.fault(why))?;
        let name = blob_name(&digest);
        let (mut file, size) = self.open_file(&name)?;
        if size != descriptor.size() {
            return Err(self.blob_fault(&digest, &format!("it is {size} instead of {} bytes long", descriptor.size())));
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(RegistryError::File { action: "read", path: self.folder.join(name), source });
                }
            };
            hasher.update(&buffer[..n]);
            out.write_all(&buffer[..n]).map_err(|e| RegistryError::Source { digest, why: e.to_string() })?;
        }
        let found = Digest::from_raw(hasher.finalize().into());
        if found != digest {
            return Err(self.blob_fault(&digest, &format!("its content has the digest {found}")));
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<Descriptor>, RegistryError> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Descriptor>,
        }
        let bytes = self.read("index.json")?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|e| self.fault(format!("the file `index.json` cannot be read ({e})")))?;
        Ok(index.manifests)
    }

    /// Reads a document by its digest; without a media type it is that which the document itself has.
    pub(crate) fn document(&self, digest: &Digest, media_type: Option<&str>) -> Result<Document, RegistryError> {
        let bytes = self.small_blob(digest)?;
        Ok(match media_type {
            Some(media_type) => Document { digest: *digest, media_type: media_type.to_owned(), bytes },
            None => Document::of_bytes(*digest, bytes),
        })
    }

    fn small_blob(&self, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        let bytes = self.read(&blob_name(digest))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(self.blob_fault(digest, &format!("its content has the digest {found}")));
        }
        Ok(bytes)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, RegistryError> {
        let (file, size) = self.open_file(name)?;
        if size > LONGEST_DOCUMENT {
            return Err(self.fault(format!("the file `{name}` is {size} bytes long, more than is read")));
        }
        let mut bytes = Vec::new();
        match file.take(LONGEST_DOCUMENT).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(source) => Err(RegistryError::File { action: "read", path: self.folder.join(name), source }),
        }
    }

    /// A regular file of the layout and its size.
    fn open_file(&self, name: &str) -> Result<(File, u64), RegistryError> {
        let path = self.folder.join(name);
        let file = match grant::open_beneath(&self.opened, Path::new(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.fault(format!("there is no file `{name}`")));
            }
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                return Err(self.fault(format!("`{name}` is a link that leads out of the layout")));
            }
            Err(source) => return Err(RegistryError::File { action: "open", path, source }),
        };
        match file.metadata() {
            Ok(meta) if meta.is_file() => Ok((file, meta.len())),
            Ok(_) => Err(self.fault(format!("`{name}` is not a regular file"))),
            Err(source) => Err(RegistryError::File { action: "read", path, source }),
        }
    }

    fn fault(&self, why: String) -> RegistryError {
        RegistryError::Layout { folder: self.folder.clone(), why }
    }

    fn name_fault(&self, why: String, wanted: Option<&str>, entries: &[Descriptor]) -> RegistryError {
        let (folder, wanted) = (self.folder.clone(), wanted.map(str::to_owned));
        RegistryError::LayoutName { folder, why, wanted, names: names(entries) }
    }

    fn blob_fault(&self, digest: &Digest, why: &str) -> RegistryError {
        self.fault(format!("blob {digest}: {why}"))
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn annotation<'a>(descriptor: &'a Descriptor, key: &str) -> Option<&'a str> {
    descriptor.annotations().as_ref()?.get(key).map(String::as_str)
}

/// The names by which the images of an index can be asked for, in order, each once: full names in their short form, and tags.
fn names(entries: &[Descriptor]) -> Vec<String> {
    let tags = entries.iter().filter_map(|it| annotation(it, REF_NAME)).map(clean);
    let names = entries.iter().filter_map(|it| annotation(it, IMAGE_NAME)).map(familiar);
    let mut all: Vec<String> = tags.chain(names).collect();
    all.sort();
    all.dedup();
    all
}

/// The short form of the full name of an image.
fn familiar(name: &str) -> String {
    clean(&Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar()))
}

fn list(names: &[String]) -> String {
    const LISTED: usize = 20;
    let more = if names.len() > LISTED { format!(" and {} more", names.len() - LISTED) } else { String::new() };
    if names.is_empty() { "no names".to_owned() } else { names[..names.len().min(LISTED)].join(", ") + &more }
}

/// Whether a descriptor has a tag: as its own, or as that of the full name that it carries. A full name is one too.
fn has_tag(descriptor: &Descriptor, tag: &str) -> bool {
    if tag.contains([':', '/']) {
        let is_it = |name: &str| {
            name == tag
                || matches!((Reference::parse(name), Reference::parse(tag)), (Ok(one), Ok(other)) if one == other)
        };
        return [IMAGE_NAME, REF_NAME].into_iter().filter_map(|key| annotation(descriptor, key)).any(is_it);
    }
    let names = [annotation(descriptor, REF_NAME), annotation(descriptor, IMAGE_NAME)];
    names.into_iter().flatten().any(|name| {
        name == tag
            || Reference::parse(name)
                .is_ok_and(|reference| name.contains([':', '/']) && reference.tag.as_deref() == Some(tag))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::oci::media;

    struct Made {
        folder: tempfile::TempDir,
        layer: Digest,
        root: Digest,
    }

    fn blob_path(folder: &Path, digest: &Digest) -> PathBuf {
        folder.join("blobs/sha256").join(digest.hex())
    }

    fn put(folder: &Path, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        fs::write(blob_path(folder, &digest), bytes).expect("writable");
        digest
    }

    fn make(tag: &str) -> Made {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = folder.path();
        fs::create_dir_all(at.join("blobs/sha256")).expect("writable");
        fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("writable");
        let layer = put(at, b"layer");
        let config = json!({"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[layer]}});
        let config = config.to_string();
        let config_digest = put(at, config.as_bytes());
        let manifest = json!({"schemaVersion":2,"mediaType":media::OCI_MANIFEST,
            "config":{"mediaType":media::OCI_CONFIG,"digest":config_digest,"size":config.len()},
            "layers":[{"mediaType":media::OCI_LAYER,"digest":layer,"size":5}]})
        .to_string();
        let manifest_digest = put(at, manifest.as_bytes());
        let index = json!({"schemaVersion":2,"mediaType":media::OCI_INDEX,"manifests":[
            {"mediaType":media::OCI_MANIFEST,"digest":manifest_digest,"size":manifest.len(),
             "platform":{"os":"linux","architecture":"amd64"}}]})
        .to_string();
        let root = put(at, index.as_bytes());
        let top = json!({"schemaVersion":2,"manifests":[{"mediaType":media::OCI_INDEX,"digest":root,"size":index.len(),
            "annotations":{REF_NAME:tag}}]});
        fs::write(at.join("index.json"), top.to_string()).expect("writable");
        Made { folder, layer, root }
    }

    fn amd64() -> Platform {
        Platform::parse("linux/amd64").expect("a platform")
    }

    #[test]
    fn an_image_is_found_by_tag_digest_or_as_the_only_one() {
        let made = make("docker.io/library/a:v1");
        let layout = Layout::open(made.folder.path()).expect("a layout");
        for (tag, digest) in [(Some("v1"), None), (None, Some(made.root)), (None, None)] {
            let image = layout.image(tag, digest.as_ref(), &amd64()).expect("it is there");
            assert_eq!(image.root.digest, made.root);
            let mut out = Vec::new();
            layout.copy_blob(&image.layers[0], &mut out).expect("it is whole");
            assert_eq!(out, b"layer");
        }
        let missing = layout.resolve(Some("v2"), None).expect_err("no such tag").to_string();
        assert!(missing.contains("`v2`") && missing.contains("a:v1"), "{missing}");
        let arm = Platform::parse("linux/arm64").expect("a platform");
        let none = layout.image(Some("v1"), None, &arm).expect_err("no such platform").to_string();
        assert!(none.contains("linux/arm64") && none.contains("linux/amd64"), "{none}");
    }

    #[test]
    fn damage_is_found_and_named() {
        let made = make("latest");
        let layout = Layout::open(made.folder.path()).expect("a layout");
        let image = layout.image(None, None, &amd64()).expect("it is whole");
        let path = blob_path(made.folder.path(), &made.layer);
        for bad in ["LAYER", "lay", "layers"] {
            fs::write(&path, bad).expect("writable");
            let error = layout.copy_blob(&image.layers[0], &mut Vec::new()).expect_err("damaged").to_string();
            assert!(error.contains(&made.layer.to_string()), "{error}");
        }
        fs::remove_file(&path).expect("writable");
        fs::create_dir(&path).expect("writable");
        assert!(layout.copy_blob(&image.layers[0], &mut Vec::new()).is_err());
        fs::remove_dir(&path).expect("writable");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("writable");
        assert!(layout.copy_blob(&image.layers[0], &mut Vec::new()).is_err());
        // The right content, but not here.
        let elsewhere = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(elsewhere.path(), "layer").expect("writable");
        fs::remove_file(&path).expect("writable");
        std::os::unix::fs::symlink(elsewhere.path(), &path).expect("writable");
        let error = layout.copy_blob(&image.layers[0], &mut Vec::new()).expect_err("it leads out").to_string();
        assert!(error.contains("leads out of the layout"), "{error}");
        fs::remove_file(&path).expect("writable");
        fs::write(path.with_extension("moved"), "layer").expect("writable");
        std::os::unix::fs::symlink(path.with_extension("moved").file_name().expect("a name"), &path).expect("writable");
        layout.copy_blob(&image.layers[0], &mut Vec::new()).expect("it stays in the layout");
        fs::write(blob_path(made.folder.path(), &made.root), "x".repeat(20)).expect("writable");
        assert!(layout.image(None, None, &amd64()).is_err());
        fs::write(made.folder.path().join("index.json"), "[".repeat(100_000)).expect("writable");
        assert!(layout.resolve(None, None).expect_err("deep").to_string().contains("index.json"));
        fs::remove_file(made.folder.path().join("oci-layout")).expect("writable");
        assert!(Layout::open(made.folder.path()).expect_err("no layout").to_string().contains("oci-layout"));
    }
}
