//! The client of all registries of a run: what requests to them share. It sends nothing itself.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use super::{connections::Connections, host::Host, options::ClientOptions};
use crate::oci::Digest;

/// All registries of a run. Cheap to make; nothing is read or connected before the first request.
#[derive(Clone)]
pub(crate) struct Client {
    pub(super) shared: Arc<Shared>,
}

/// State that all requests of a run share.
pub(super) struct Shared {
    pub(super) connections: Connections,
    hosts: Mutex<HashMap<HostKey, Arc<Host>>>,
    /// Repositories known to hold a blob, by registry: they are asked for mounts.
    held: Mutex<HashMap<(String, Digest), BTreeSet<String>>>,
}

/// Domain of a reference, whether insecure is acceptable, and which mirror (`None`: the registry itself).
type HostKey = (String, bool, Option<usize>);

impl Client {
    /// A client. Reads nothing, opens nothing.
    pub(crate) fn new(options: ClientOptions) -> Self {
        let connections = Connections::new(options);
        let shared = Shared { connections, hosts: Mutex::default(), held: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// How registries are reached, and what came with it: Docker's folder, the user's environment.
    pub(crate) fn options(&self) -> &ClientOptions {
        &self.shared.connections.options
    }

    /// The registry of a domain.
    pub(super) fn origin(&self, domain: &str, insecure: bool) -> Arc<Host> {
        let key = (domain.to_owned(), insecure, None);
        let mut hosts = self.shared.hosts.lock().expect("no holder of this lock panics");
        hosts
            .entry(key)
            .or_insert_with(|| Arc::new(Host::origin(&self.shared.connections.options, domain, insecure)))
            .clone()
    }

    /// Where a domain's content may be read: its mirrors in order, then the registry itself.
    pub(super) fn readers(&self, domain: &str) -> Vec<Arc<Host>> {
        let mut readers = Vec::new();
        while let Some(host) = self.mirror(domain, readers.len()) {
            readers.push(host);
        }
        readers.push(self.origin(domain, false));
        readers
    }

    fn mirror(&self, domain: &str, index: usize) -> Option<Arc<Host>> {
        let mut hosts = self.shared.hosts.lock().expect("no holder of this lock panics");
        let key = (domain.to_owned(), false, Some(index));
        if let Some(host) = hosts.get(&key) {
            return Some(host.clone());
        }
        let host = Arc::new(Host::mirror(&self.shared.connections.options, domain, index)?);
        hosts.insert(key, host.clone());
        Some(host)
    }

    /// Remembers that a repository holds a blob.
    pub(super) fn note_held(&self, domain: &str, path: &str, digest: Digest) {
        let mut held = self.shared.held.lock().expect("no holder of this lock panics");
        held.entry((domain.to_owned(), digest)).or_default().insert(path.to_owned());
    }

    /// Repositories of a registry known to hold a blob.
    pub(super) fn holders(&self, domain: &str, digest: Digest) -> BTreeSet<String> {
        let held = self.shared.held.lock().expect("no holder of this lock panics");
        held.get(&(domain.to_owned(), digest)).cloned().unwrap_or_default()
    }
}
