//! An image that another engine has made, from its documents; and the parts of several engines as one image.

use std::{
    collections::{BTreeMap, HashSet},
    io,
};

use serde_json::{Map, Value, json};

use crate::{
    export::assemble::{AssembledImage, BlobContent, DocumentDescriptor, ImageBlob, descriptor},
    oci::{Digest, Platform, digest::FieldHasher, media},
    registry::Document,
    store::Store,
};

/// How deep indexes may be nested, and how long a document may be, in bytes.
const DEEPEST_INDEX: usize = 4;
const LONGEST_DOCUMENT: u64 = 8 << 20;

/// The root of an image that another engine has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteRoot {
    pub(crate) document: Document,
    /// The platform of the image, if the root is no index.
    pub(crate) platform: Platform,
    /// Those of its descriptor.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The image that roots in the store make together: that of the only one, else an index over all.
///
/// # Errors
/// A document or blob is missing in the store, or is none.
pub(crate) fn of_store(roots: &[RemoteRoot], store: &Store) -> io::Result<AssembledImage> {
    let mut image = AssembledImage {
        blobs: Vec::new(),
        documents: Vec::new(),
        root: descriptor(media::OCI_INDEX, Digest::of(b""), 0),
        single: None,
    };
    let mut seen = HashSet::new();
    for root in roots {
        add(&mut image, &root.document, store, &mut seen, 0)?;
    }
    let root = join(roots).map_err(io::Error::other)?;
    if roots.len() > 1 {
        image.documents.push(root.clone());
        image.single = None;
    }
    image.root = root_descriptor(&root, roots);
    Ok(image)
}

/// The descriptor of what `roots` make together: that of a single image tells its platform.
pub(crate) fn root_descriptor(root: &Document, roots: &[RemoteRoot]) -> DocumentDescriptor {
    let mut found = descriptor(&root.media_type, root.digest, root.bytes.len() as u64);
    if let [only] = roots {
        found.platform = (!media::is_index(&root.media_type)).then(|| only.platform.clone());
        found.annotations.clone_from(&only.annotations);
    }
    found
}

/// Adds a document and what it names, itself last.
fn add(
    image: &mut AssembledImage,
    document: &Document,
    store: &Store,
    seen: &mut HashSet<Digest>,
    depth: usize,
) -> io::Result<()> {
    if !seen.insert(document.digest) {
        return Ok(());
    }
    let content = parsed(document).map_err(io::Error::other)?;
    let entries = |key: &str| content.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    if media::is_index(&document.media_type) {
        if depth == DEEPEST_INDEX {
            return Err(io::Error::other("an index of indexes is nested too deep"));
        }
        for entry in entries("manifests") {
            let (digest, size, media_type) = named(&entry).map_err(io::Error::other)?;
            if size > LONGEST_DOCUMENT {
                return Err(io::Error::other(format!("the manifest {digest} is too long")));
            }
            let bytes = store.blob_bytes(&digest).map_err(io::Error::other)?;
            add(image, &Document { digest, media_type, bytes }, store, seen, depth + 1)?;
        }
    } else {
        let (config, config_size, _) = named(&content["config"]).map_err(io::Error::other)?;
        let mut layers = Vec::new();
        for entry in entries("layers") {
            let (digest, size, media_type) = named(&entry).map_err(io::Error::other)?;
            layers.push((digest, size, media_type.contains("nondistributable") || media_type.contains("foreign")));
        }
        image.single = Some((config, layers.iter().map(|(digest, ..)| *digest).collect()));
        for (digest, size, nondist) in [(config, config_size, false)].into_iter().chain(layers) {
            if store.blob_size(&digest) != Some(size) {
                return Err(io::Error::other(format!("the blob {digest} did not arrive")));
            }
            if seen.insert(digest) {
                image.blobs.push(ImageBlob { digest, size, from: BlobContent::Store, nondist });
            }
        }
    }
    image.documents.push(document.clone());
    if media::is_index(&document.media_type) {
        image.single = None;
    }
    Ok(())
}

/// One root over all: the only one as it is, else an index with the manifests of each, in their order. Written as
/// `docker buildx` writes it, so that its digest is the same.
///
/// # Errors
/// A root cannot be read; the text is for the user.
pub(super) fn join(roots: &[RemoteRoot]) -> Result<Document, String> {
    if let [only] = roots {
        return Ok(only.document.clone());
    }
    let (mut entries, mut annotations, mut seen) = (Vec::new(), Map::new(), HashSet::new());
    for RemoteRoot { document, platform, annotations: _ } in roots {
        let content = parsed(document)?;
        let found = match content.get("manifests").and_then(Value::as_array) {
            Some(all) => all.clone(),
            None => vec![json!({
                "mediaType": document.media_type,
                "digest": document.digest.to_string(),
                "size": document.bytes.len(),
                "platform": platform,
            })],
        };
        if let Some(all) = content.get("annotations").and_then(Value::as_object) {
            annotations.extend(all.clone());
        }
        for entry in found {
            if seen.insert(named(&entry)?.0) {
                entries.push(entry);
            }
        }
    }
    let is_docker = |entry: &Value| entry.get("mediaType").and_then(Value::as_str) == Some(media::DOCKER_MANIFEST);
    let is_list = annotations.is_empty() && entries.iter().all(is_docker);
    let media_type = if is_list { media::DOCKER_INDEX } else { media::OCI_INDEX };
    let mut content = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
    if !annotations.is_empty() {
        content["annotations"] = Value::Object(annotations);
    }
    let bytes = serde_json::to_vec_pretty(&content).expect("an index is plain data");
    Ok(Document { digest: Digest::of(&bytes), media_type: media_type.to_owned(), bytes })
}

/// What an image is, apart from what is attested about it: provenance has the times of its build, and differs each time.
pub(super) fn identity(root: &Document) -> Digest {
    const KIND: &str = "vnd.docker.reference.type";
    let content = parsed(root).ok();
    let Some(entries) = content.as_ref().and_then(|it| it.get("manifests")?.as_array()) else { return root.digest };
    let mut hasher = FieldHasher::new("remote-image/1");
    for entry in entries {
        match entry.get("annotations").and_then(|it| it.get(KIND)) {
            Some(kind) => hasher.text(&kind.to_string()),
            None => hasher.text(&entry.to_string()),
        };
    }
    hasher.text(&content.as_ref().and_then(|it| it.get("annotations")).map(Value::to_string).unwrap_or_default());
    hasher.finish()
}

fn parsed(document: &Document) -> Result<Value, String> {
    let Document { digest, bytes, .. } = document;
    serde_json::from_slice(bytes).map_err(|error| format!("the document {digest} cannot be read: {error}"))
}

/// Digest, size and media type of an entry.
fn named(entry: &Value) -> Result<(Digest, u64, String), String> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
    let digest = text("digest").parse().map_err(|_| format!("not a sha256 digest: {:?}", text("digest")))?;
    let size = entry.get("size").and_then(Value::as_u64).ok_or_else(|| format!("{digest} has no size"))?;
    Ok((digest, size, text("mediaType").to_owned()))
}

/// The entries of an image in the metadata file, from its root and what names it.
pub(super) fn metadata(root: &Document, descriptor: DocumentDescriptor, names: &str) -> Map<String, Value> {
    let image = AssembledImage {
        blobs: Vec::new(),
        documents: Vec::new(),
        root: descriptor,
        single: parsed(root).ok().and_then(|it| Some((named(it.get("config")?).ok()?.0, Vec::new()))),
    };
    image.metadata(names, &BTreeMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(platform: &str, manifest: &str) -> RemoteRoot {
        let entry = json!({"mediaType": media::OCI_MANIFEST, "digest": Digest::of(manifest.as_bytes()), "size": 3});
        let bytes = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry]}).to_string();
        let bytes = bytes.into_bytes();
        let document = Document { digest: Digest::of(&bytes), media_type: media::OCI_INDEX.to_owned(), bytes };
        RemoteRoot {
            document,
            platform: Platform::parse(platform).expect("a platform"),
            annotations: BTreeMap::from([("a".to_owned(), platform.to_owned())]),
        }
    }

    #[test]
    fn indexes_are_joined_in_the_order_of_platforms_and_one_stays_as_it_is() {
        let (a, b) = (root("linux/amd64", "a"), root("linux/arm64", "b"));
        assert_eq!(join(std::slice::from_ref(&a)).expect("an index"), a.document);
        let joined = join(&[a.clone(), b, a]).expect("an index");
        let content: Value = serde_json::from_slice(&joined.bytes).expect("JSON");
        let digests: Vec<&str> =
            content["manifests"].as_array().expect("a list").iter().filter_map(|it| it["digest"].as_str()).collect();
        assert_eq!(digests, [Digest::of(b"a").to_string(), Digest::of(b"b").to_string()]);
        assert!(root_descriptor(&joined, &[]).annotations.is_empty());
        assert!(joined.bytes.starts_with(b"{\n  \"schemaVersion\": 2,\n  \"mediaType\""));
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let bytes = b"nope".to_vec();
        let document = Document { digest: Digest::of(&bytes), media_type: media::OCI_INDEX.to_owned(), bytes };
        let bad = RemoteRoot { document, platform: Platform::host(), annotations: BTreeMap::new() };
        assert!(join(&[bad.clone(), bad]).is_err());
    }
}
