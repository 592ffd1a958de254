//! Copying between repositories: a manifest or an index goes with all that it names. A blob that the registry has in the other
//! repository is mounted; any other one is fetched into a folder and sent on.
//!
//! No tag is set: the copy is known by its digest.

use std::{
    fs::{self, File},
    path::Path,
    sync::Arc,
};

use super::{
    client::Client,
    error::RegistryError,
    image::{DEEPEST_INDEX, Document, NoDocuments, ParsedDocument, digest_of},
    pull::target,
    push::{BlobSource, Push, Upload},
};
use crate::oci::{Descriptor, Digest, Reference, media};

/// The most manifests and indexes that one copy may consist of.
const MOST_DOCUMENTS: usize = 1000;

/// A manifest or index with the blobs that it names itself.
struct CopiedDocument {
    document: Document,
    blobs: Vec<Descriptor>,
}

impl Client {
    /// Copies the manifest or index of a digest, with all that it names, from the repository of `from` into that of `into`.
    ///
    /// Blobs that have to be sent lie in `folder` on their way, those of one image at a time.
    ///
    /// # Errors
    /// As [`Client::document`] and [`Client::push`]; and when indexes lie too deep, or name too many manifests.
    pub(crate) async fn copy(
        &self,
        from: &Reference,
        digest: Digest,
        into: &Reference,
        folder: &Path,
    ) -> Result<(), RegistryError> {
        // What an index names is pushed before the index.
        for CopiedDocument { document, blobs } in self.documents_below(from, digest).await?.into_iter().rev() {
            let at = target(from, &document.digest.to_string());
            let uploads = blobs.iter().map(|blob| self.passed_on(from, blob, folder)).collect::<Result<Vec<_>, _>>();
            let push = Push {
                domain: &into.domain,
                path: &into.path,
                tags: &[],
                blobs: uploads.map_err(|why| RegistryError::Document { target: at, why })?,
                documents: vec![document],
                insecure: false,
                progress: &|_| (),
            };
            self.push(push).await?;
            for blob in &blobs {
                let path = folder.join(file_name(blob));
                match fs::remove_file(&path) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        return Err(RegistryError::File { action: "remove", path, source });
                    }
                    _ => (),
                }
            }
        }
        Ok(())
    }

    /// A document and those below it, each before those that it names.
    async fn documents_below(&self, from: &Reference, root: Digest) -> Result<Vec<CopiedDocument>, RegistryError> {
        let mut found: Vec<CopiedDocument> = Vec::new();
        let mut open = vec![(root, 0)];
        while let Some((digest, depth)) = open.pop() {
            let fault = |why| RegistryError::Document { target: target(from, &digest.to_string()), why };
            if depth > DEEPEST_INDEX {
                return Err(fault(format!("more than {DEEPEST_INDEX} indexes lie within each other")));
            }
            if found.len() == MOST_DOCUMENTS {
                return Err(fault(format!("more than {MOST_DOCUMENTS} manifests belong to one image")));
            }
            let document = self.document(from, &digest, &NoDocuments).await?;
            let mut blobs = Vec::new();
            match document.parse().map_err(fault)? {
                ParsedDocument::Index(entries) => {
                    for entry in entries.iter().rev() {
                        open.push((digest_of(entry).map_err(fault)?, depth + 1));
                    }
                }
                ParsedDocument::Manifest { config, layers } => {
                    blobs.push(*config);
                    blobs.extend(layers.into_iter().filter(|it| !media::is_nondistributable(it.media_type().as_ref())));
                }
            }
            found.push(CopiedDocument { document, blobs });
        }
        Ok(found)
    }

    /// The upload of a blob of another repository, which is fetched only if it cannot be mounted.
    ///
    /// # Errors
    /// Its digest is not sha256; the text is for the user.
    fn passed_on(&self, from: &Reference, blob: &Descriptor, folder: &Path) -> Result<Upload, String> {
        let (client, from, blob) = (self.clone(), from.clone(), blob.clone());
        let (digest, size, path) = (digest_of(&blob)?, blob.size(), folder.join(file_name(&blob)));
        let found_in = vec![(from.domain.clone(), from.path.clone())];
        let fetch = move || {
            let (client, from, blob, path) = (client.clone(), from.clone(), blob.clone(), path.clone());
            let fetched = async move {
                let writer = client.blob(&from, &blob, || File::create(&path), &|_| ()).await;
                writer.map(|_| path).map_err(|error| error.to_string())
            };
            Box::pin(fetched) as _
        };
        Ok(Upload { digest, size, source: BlobSource::Fetch(Arc::new(fetch)), found_in })
    }
}

/// The name of a blob in the folder.
fn file_name(blob: &Descriptor) -> String {
    blob.digest().digest().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::tests::{Server, answer, client, run};

    /// Puts an index with an image of so many layers into the repository `from`.
    fn put(server: &Server, n_layers: usize) -> Digest {
        let blob = |media_type: &str, bytes: &[u8]| {
            let digest = server.put_blob("from", bytes);
            json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
        };
        let layers: Vec<_> = (0..n_layers).map(|n| blob(media::OCI_LAYER, format!("layer {n}").as_bytes())).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": blob(media::OCI_CONFIG, b"{}"), "layers": layers})
        .to_string();
        let digest = server.put_manifest("from", "one", media::OCI_MANIFEST, manifest.as_bytes());
        let entry = json!({"mediaType": media::OCI_MANIFEST, "digest": digest.to_string(), "size": manifest.len()});
        let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry]}).to_string();
        server.put_manifest("from", "all", media::OCI_INDEX, index.as_bytes())
    }

    fn copy(from: &Server, into: &Server, digest: Digest) {
        let (client, _config) = client(None);
        let folder = tempfile::tempdir().expect("a folder");
        let at = |server: &Server, repository: &str| server.reference(&format!("{repository}:x"));
        run(client.copy(&at(from, "from"), digest, &at(into, "into"), folder.path())).expect("it can be copied");
        let copied = at(into, "into");
        run(client.document(&copied, &digest, &NoDocuments)).expect("it is there");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0, "nothing stays in the folder");
    }

    #[test]
    fn blobs_are_mounted_where_the_registry_is_the_same() {
        let server = Server::start(|_, _| None);
        let index = put(&server, 2);
        copy(&server, &server, index);
        let gets = server.log().iter().filter(|line| line.starts_with("GET /v2/from/blobs/")).count();
        assert_eq!(gets, 0, "{:?}", server.log());
    }

    #[test]
    fn more_blobs_than_go_at_a_time_are_fetched_and_sent_where_none_is_mounted() {
        let server =
            Server::start(|request, _| request.query.contains("mount=").then(|| answer(404, "no such repository")));
        let index = put(&server, 20);
        copy(&server, &server, index);
        let other = Server::start(|_, _| None);
        copy(&server, &other, index);
    }
}
