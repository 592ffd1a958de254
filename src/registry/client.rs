//! The client of all registries of a run: what requests to them share. It sends nothing itself.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use super::{connections::Connections, host::Host, options::ClientOptions, settings};
use crate::oci::{Digest, Reference};

/// The client for all registries of a run. Cheap to clone; nothing is read or connected before the first request.
#[derive(Clone)]
pub(crate) struct Client {
    pub(super) shared: Arc<Shared>,
}

/// State that all requests of a run share.
pub(super) struct Shared {
    pub(super) connections: Connections,
    hosts: Mutex<HashMap<HostKey, Arc<Host>>>,
    writers: Mutex<HashMap<HostKey, Arc<Host>>>,
    /// By domain: its mirrors, then the registry itself.
    readers: Mutex<HashMap<String, Vec<Arc<Host>>>>,
    /// Repositories, by domain and path, that may be read from a registry whose certificate is not checked.
    insecure: Mutex<BTreeSet<(String, String)>>,
    /// Repositories known to hold a blob, by registry: they are asked for mounts.
    held: Mutex<HashMap<(String, Digest), BTreeSet<String>>>,
}

/// Domain of a reference, and whether insecure is acceptable.
type HostKey = (String, bool);

impl Client {
    /// A client with these options; reads and opens nothing.
    pub(crate) fn new(options: ClientOptions) -> Self {
        let connections = Connections::new(options);
        let shared = Shared {
            connections,
            hosts: Mutex::default(),
            writers: Mutex::default(),
            readers: Mutex::default(),
            insecure: Mutex::default(),
            held: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The options of the client: how registries are reached, Docker's configuration folder, the user's environment.
    pub(crate) fn options(&self) -> &ClientOptions {
        &self.shared.connections.options
    }

    /// The registry of a domain itself, not a mirror; made when it is first asked for.
    pub(super) fn origin(&self, domain: &str, insecure: bool) -> Arc<Host> {
        let key = (domain.to_owned(), insecure);
        let mut hosts = self.shared.hosts.lock().expect("no holder of this lock panics");
        hosts
            .entry(key)
            .or_insert_with(|| Arc::new(Host::origin(&self.shared.connections.options, domain, insecure)))
            .clone()
    }

    /// The host to which a domain's content is written: the one that its settings name for pushes, else the registry itself.
    pub(super) fn writer(&self, domain: &str, insecure: bool) -> Arc<Host> {
        let key = (domain.to_owned(), insecure);
        let mut known = self.shared.writers.lock().expect("no holder of this lock panics");
        if let Some(writer) = known.get(&key) {
            return writer.clone();
        }
        let options = &self.shared.connections.options;
        // Settings that cannot be read, or that block the registry, are what the registry itself answers with.
        let found = settings::of(options, domain).ok().filter(|settings| !settings.blocked);
        let writer = match found.and_then(|settings| settings.push) {
            Some(mut push) => {
                push.settings.insecure |= insecure;
                Arc::new(Host::mirror(options, domain, *push))
            }
            None => self.origin(domain, insecure),
        };
        known.insert(key, writer.clone());
        writer
    }

    /// Has one repository read from the registry itself without checking its certificate, or by plain HTTP. The content
    /// of layers is known by its digest all the same; that of tags is what the network says.
    pub(crate) fn allow_insecure(&self, domain: &str, path: &str) {
        let mut insecure = self.shared.insecure.lock().expect("no holder of this lock panics");
        insecure.insert((domain.to_owned(), path.to_owned()));
    }

    /// The hosts from which a repository may be read.
    pub(super) fn readers_of(&self, reference: &Reference) -> Vec<Arc<Host>> {
        let repository = (reference.domain.clone(), reference.path.clone());
        let is_insecure = self.shared.insecure.lock().expect("no holder of this lock panics").contains(&repository);
        if is_insecure { vec![self.origin(&reference.domain, true)] } else { self.readers(&reference.domain) }
    }

    /// The hosts from which a domain's content may be read: its mirrors in order, then the registry itself.
    pub(super) fn readers(&self, domain: &str) -> Vec<Arc<Host>> {
        let mut known = self.shared.readers.lock().expect("no holder of this lock panics");
        if let Some(readers) = known.get(domain) {
            return readers.clone();
        }
        let options = &self.shared.connections.options;
        // If the settings cannot be read, that is the fault that the registry itself answers with.
        let mirrors = settings::of(options, domain).map(|settings| settings.mirrors).unwrap_or_default();
        let mirrors = mirrors.into_iter().map(|mirror| Arc::new(Host::mirror(options, domain, mirror)));
        let readers: Vec<Arc<Host>> = mirrors.chain([self.origin(domain, false)]).collect();
        known.insert(domain.to_owned(), readers.clone());
        readers
    }

    /// Remembers that a repository has a blob, so that others of the registry can mount it.
    pub(super) fn note_held(&self, domain: &str, path: &str, digest: Digest) {
        let mut held = self.shared.held.lock().expect("no holder of this lock panics");
        held.entry((domain.to_owned(), digest)).or_default().insert(path.to_owned());
    }

    /// The repositories of a registry that are known to have a blob.
    pub(super) fn holders(&self, domain: &str, digest: Digest) -> BTreeSet<String> {
        let held = self.shared.held.lock().expect("no holder of this lock panics");
        held.get(&(domain.to_owned(), digest)).cloned().unwrap_or_default()
    }
}
