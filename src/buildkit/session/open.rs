//! A session: opened on a daemon, watched, closed when dropped.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tonic::{
    Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
    transport::Channel,
};

use super::{
    method::METHODS,
    server::{Served, serve},
    services::SessionServices,
    traffic::SentBytes,
    tunnel,
};

/// A daemon asks for our health every 5 seconds; one that is silent for so long is lost.
const SILENCE: Duration = Duration::from_secs(30);

/// How a session is known to the daemon.
#[derive(Clone, Debug)]
pub(crate) struct SessionIdentity {
    /// By this, requests name the session. Whoever knows it can read what the session offers.
    pub(crate) uuid: String,
    /// For logs of the daemon.
    pub(crate) name: String,
    /// Folders of equal name in sessions of equal key are taken for the same: only what differs travels.
    pub(crate) shared_key: String,
}

/// A session that is open; closed when dropped.
pub(crate) struct Session {
    id: String,
    served: Arc<Served>,
    ended: watch::Receiver<Option<String>>,
    serving: JoinHandle<()>,
}

impl Session {
    /// Opens a session on the daemon behind a channel.
    ///
    /// # Errors
    /// The daemon refuses it or cannot be reached, or the identity has characters that no header can have.
    pub(crate) async fn open(
        channel: Channel,
        identity: SessionIdentity,
        services: SessionServices,
    ) -> Result<Self, Status> {
        let metadata = headers(&identity, &services)?;
        let served = Served::new(services);
        let (stream, carrying) = tunnel::open(channel, metadata).await?;
        let (end, ended) = watch::channel(None);
        let answering = serve(stream, served.clone());
        let serving = tokio::spawn(async move {
            let reason = tokio::select! {
                biased;
                reason = carrying => reason,
                reason = answering => reason,
            };
            end.send_replace(Some(reason));
        });
        Ok(Self { id: identity.uuid, served, ended, serving })
    }

    /// The id by which requests name this session.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the session is lost; returns the reason, which is a clause.
    ///
    /// It is lost when its connection breaks, or when no health check came for 30 seconds after there was one.
    pub(crate) async fn lost(&self) -> String {
        self.lost_after(SILENCE).await
    }

    pub(super) async fn lost_after(&self, silence: Duration) -> String {
        let mut ended = self.ended.clone();
        let mut checks = self.served.health_checks();
        let silent = async {
            loop {
                let last = *checks.borrow_and_update();
                match last {
                    Some(last) if last + silence <= Instant::now() => break,
                    Some(last) => sleep_until(last + silence).await,
                    // The sender lives as long as the session.
                    None => drop(checks.changed().await),
                }
            }
        };
        tokio::select! {
            ended = ended.wait_for(Option::is_some) => {
                let reason = ended.ok().and_then(|reason| reason.clone());
                reason.unwrap_or_else(|| "the session was closed".to_owned())
            }
            () = silent => format!("the daemon was silent for {} seconds", silence.as_secs()),
        }
    }

    /// What failed on this side so far, as sentences without a full stop: a file that cannot be read or written, a blob that
    /// is not what its digest says. The daemon was told, and tells it again in words of its own.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.served.faults()
    }

    /// What the session has carried so far.
    pub(crate) fn sent(&self) -> SentBytes {
        self.served.traffic.now()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn headers(identity: &SessionIdentity, services: &SessionServices) -> Result<MetadataMap, Status> {
    let value = |text: &str| -> Result<MetadataValue<Ascii>, Status> {
        text.parse().map_err(|_| Status::invalid_argument(format!("a header cannot hold {text:?}")))
    };
    let mut metadata = MetadataMap::new();
    metadata.insert("x-docker-expose-session-uuid", value(&identity.uuid)?);
    metadata.insert("x-docker-expose-session-name", value(&identity.name)?);
    metadata.insert("x-docker-expose-session-sharedkey", value(&identity.shared_key)?);
    for (_, path) in METHODS.iter().filter(|(method, _)| services.offer(*method)) {
        metadata.append("x-docker-expose-session-grpc-method", value(path)?);
    }
    Ok(metadata)
}
