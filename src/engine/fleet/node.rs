//! One node of a fleet during a run: its connections, the session by which it reads folders, and how much it does at a time.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{Semaphore, watch};
use tonic::{Status, transport::Channel};

use super::place::PlaceNode;
use crate::buildkit::{Connection, session::Session};

/// Builds on one connection: a daemon of Docker serves 250 streams on each, of which a build has up to five.
const BUILDS_A_CONNECTION: usize = 40;

/// Results that a node hands over at the same time.
const EXPORTS: usize = 8;

/// A node that has answered.
pub(super) struct FleetNode {
    /// Its place among the nodes of the run.
    pub(super) index: usize,
    /// As the builder names it.
    pub(super) name: String,
    /// Where it is, as users write it.
    pub(super) address: String,
    pub(super) place: PlaceNode,
    pub(super) abilities: NodeAbilities,
    /// The session that serves folders, for all builds of the node.
    pub(super) shared: OnceLock<Session>,
    /// How many builds run at a time; those that are held do not count.
    pub(super) slots: Semaphore,
    /// How many results are handed over at a time: a daemon gives each of its exporters five seconds to reach us.
    pub(super) exports: Semaphore,
    connections: tokio::sync::Mutex<Vec<(Connection, Arc<()>)>>,
    lost: watch::Sender<Option<String>>,
    /// What a lost node was lost for, once.
    told: Mutex<bool>,
}

/// What the daemon of a node can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeAbilities {
    /// It is a daemon of Docker: images go into its own store.
    pub(super) is_docker: bool,
    /// It can hand over an image blob by blob.
    pub(super) has_images: bool,
    /// Images can have attestations.
    pub(super) has_attestations: bool,
}

/// A connection that a build uses; it counts as used as long as this lives.
pub(super) struct UsedConnection {
    pub(super) channel: Channel,
    _counted: Arc<()>,
}

impl FleetNode {
    pub(super) fn new(
        index: usize,
        address: String,
        place: PlaceNode,
        abilities: NodeAbilities,
        jobs: usize,
        connection: Connection,
    ) -> Self {
        Self {
            index,
            name: place.name.clone(),
            address,
            place,
            abilities,
            shared: OnceLock::new(),
            slots: Semaphore::new(jobs),
            exports: Semaphore::new(EXPORTS),
            connections: tokio::sync::Mutex::new(vec![(connection, Arc::new(()))]),
            lost: watch::channel(None).0,
            told: Mutex::new(false),
        }
    }

    /// A connection with room for one more build; a new one when all are full.
    ///
    /// # Errors
    /// The node does not answer any more.
    pub(super) async fn connection(&self) -> Result<UsedConnection, Status> {
        let mut connections = self.connections.lock().await;
        let free = connections.iter().find(|(_, used)| Arc::strong_count(used) <= BUILDS_A_CONNECTION);
        if let Some((connection, used)) = free {
            return Ok(UsedConnection { channel: connection.channel(), _counted: used.clone() });
        }
        let again = connections[0].0.again().await.map_err(|fault| Status::unavailable(fault.cause.reason))?;
        let used = Arc::new(());
        let here = UsedConnection { channel: again.channel(), _counted: used.clone() };
        connections.push((again, used));
        Ok(here)
    }

    /// Notes that the node is lost; returns whether nobody has noted it before.
    pub(super) fn lose(&self, why: &str) -> bool {
        self.lost.send_if_modified(|lost| {
            let is_new = lost.is_none();
            lost.get_or_insert_with(|| why.to_owned());
            is_new
        });
        !std::mem::replace(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner), true)
    }

    /// Why the node is lost, if it is.
    pub(super) fn why_lost(&self) -> Option<String> {
        self.lost.borrow().clone()
    }

    /// Waits until the node is lost; returns the reason.
    pub(super) async fn when_lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        let noted = async {
            let found = lost.wait_for(Option::is_some).await;
            found.ok().and_then(|why| why.clone()).unwrap_or_default()
        };
        match self.shared.get() {
            Some(session) => tokio::select! {
                why = noted => why,
                why = session.lost() => why,
            },
            None => noted.await,
        }
    }
}
