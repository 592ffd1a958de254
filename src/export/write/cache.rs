//! Writes shared caches to a registry or an OCI layout folder.

use std::{collections::BTreeMap, path::Path};

use super::{
    job::{self, upload},
    layout,
    member::MemberContent,
};
use crate::{
    export::{
        assemble::{
            BlobContent, CACHE_CONFIG, DocumentDescriptor, ImageBlob, cache_config, cache_document, descriptor,
            layer_type,
        },
        built::CacheRecord,
        cache::{CacheDest, CacheTo},
        context::{ExportContext, with_causes},
        pack::{LayerFault, LayerStack, pack_stacks},
    },
    grant,
    oci::{Digest, Reference},
    registry::{Document, Push},
};

/// Writes records and their layers.
///
/// # Errors
/// The text names the place and what went wrong.
pub(crate) async fn export_cache(to: &CacheTo, records: &[CacheRecord], context: &ExportContext) -> Result<(), String> {
    let how = to.document.compression;
    let stacks: Vec<LayerStack<'_>> =
        records.iter().map(|it| LayerStack { layers: &it.layers, base_layers: it.layers.len(), epoch: None }).collect();
    let packed = pack_stacks(how, &stacks, context).await.map_err(|fault| match fault {
        LayerFault::Builder(diagnostic) => diagnostic.to_string(),
        LayerFault::Text(text) => text,
    })?;
    let (config, used) = cache_config(records, &packed);
    let mut blobs: Vec<ImageBlob> = Vec::new();
    let mut descriptors: Vec<DocumentDescriptor> = Vec::new();
    for (layer, created) in used {
        let from = layer.base.clone().map_or(BlobContent::Store, |base| BlobContent::Base(Box::new(base)));
        blobs.push(ImageBlob { digest: layer.digest, size: layer.size, from, nondist: false });
        let media_type = layer_type(layer.codec, !to.document.oci_mediatypes, false);
        let mut made = descriptor(media_type, layer.digest, layer.size);
        made.annotations = layer.annotations.clone();
        made.annotations.insert("containerd.io/uncompressed".to_owned(), layer.diff_id.to_string());
        if !created.is_empty() {
            made.annotations.insert("buildkit/createdat".to_owned(), created);
        }
        descriptors.push(made);
    }
    let bytes = serde_json::to_vec(&config).expect("cache configs are plain data");
    let config = descriptor(CACHE_CONFIG, Digest::of(&bytes), bytes.len() as u64);
    blobs.push(ImageBlob { digest: config.digest, size: config.size, from: BlobContent::Bytes(bytes), nondist: false });
    let root = cache_document(to, config, descriptors);
    match &to.place {
        CacheDest::Registry { reference, insecure } => push(context, reference, *insecure, &blobs, root).await,
        CacheDest::Local { folder, tag, .. } => write_layout(context, folder, tag, blobs, root).await,
    }
}

async fn push(
    context: &ExportContext,
    reference: &Reference,
    insecure: bool,
    blobs: &[ImageBlob],
    root: Document,
) -> Result<(), String> {
    let push = Push {
        domain: &reference.domain,
        path: &reference.path,
        tags: &[reference.tag_or_latest().unwrap_or("latest").to_owned()],
        blobs: blobs.iter().map(|it| upload(context, it)).collect(),
        documents: vec![root],
        insecure,
        progress: &|_| (),
    };
    context.client.push(push).await.map_err(|e| with_causes(&e))
}

async fn write_layout(
    context: &ExportContext,
    folder: &Path,
    tag: &str,
    blobs: Vec<ImageBlob>,
    root: Document,
) -> Result<(), String> {
    job::fetch(context, &blobs).await.map_err(|e| e.to_string())?;
    let mut named = descriptor(&root.media_type, root.digest, root.bytes.len() as u64);
    named.annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag.to_owned());
    let place =
        grant::resolve(folder, Path::new("/")).map_err(|e| format!("cannot find `{}`: {e}", folder.display()))?;
    let place = context.writable.write(place).map_err(|grant::Denied(path)| {
        let path = path.display();
        format!("the destination leads to `{path}`, where it may not write; --allow=fs.write={path} allows it")
    })?;
    let store = context.store.clone();
    let written = tokio::task::spawn_blocking(move || {
        let mut sizes: BTreeMap<Digest, u64> = blobs.iter().map(|it| (it.digest, it.size)).collect();
        sizes.insert(root.digest, root.bytes.len() as u64);
        let mut bytes: BTreeMap<Digest, Vec<u8>> = BTreeMap::from([(root.digest, root.bytes)]);
        for blob in blobs {
            if let BlobContent::Bytes(content) = blob.from {
                bytes.insert(blob.digest, content);
            }
        }
        let open = |digest: &Digest| match bytes.get(digest) {
            Some(bytes) => Ok(MemberContent::Bytes(bytes)),
            None => store.open_blob(digest).map(MemberContent::File).map_err(std::io::Error::other),
        };
        layout::write(&place, &sizes, open, &[named], |_| ())
    });
    let written = written.await.map_err(|e| e.to_string())?;
    written.map(drop).map_err(|(path, e)| format!("cannot write `{}`: {e}", path.display()))
}
