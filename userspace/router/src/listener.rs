//! The one TLS port: clients and links, told apart by ALPN.

use std::{sync::Arc, time::Duration};

use nightgate_identity::{ClientTrust, Identity, OldestTls, TlsSetupError, fingerprint};
use nightgate_model::replica::Replica;
use nightgate_tls::{Acceptor, TlsStream};
use nightgate_wire::{
    edge, link as link_wire,
    source::{Concurrent, MAX_HANDSHAKES, Slot},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tracing::{debug, warn};

use crate::{Router, control::chain, edge::client, link, own::Own};

/// A peer that has not finished TLS by then is turned away.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Handshakes under way at once; more wait in the kernel's accept queue.
const HANDSHAKES: usize = 256;

pub(crate) struct Listener {
    acceptor: Acceptor,
    own: watch::Receiver<Arc<Own>>,
    trust: Arc<ClientTrust>,
    oldest: OldestTls,
    router: Router,
}

/// Why a connection was turned away.
#[derive(Debug, thiserror::Error)]
enum RefusedConnection {
    #[error("TLS took too long")]
    Late,
    #[error("TLS failed")]
    Tls(#[from] std::io::Error),
    #[error("no client certificate")]
    NoCertificate,
    #[error("unknown application protocol")]
    Protocol,
}

impl Listener {
    pub(crate) fn new(oldest: OldestTls, router: Router) -> Result<Self, TlsSetupError> {
        let mut own = router.own();
        let identity = own.borrow_and_update().identity.clone();
        let trust = ClientTrust::new(&identity)?;
        let acceptor = acceptor(&identity, &trust, oldest)?;
        router.spawn(follow(Arc::clone(&trust), router.replica()));
        Ok(Self { acceptor, own, trust, oldest, router })
    }

    /// Presents the latest certificate.
    fn acceptor(&mut self) -> Acceptor {
        if self.own.has_changed().unwrap_or_default() {
            let own = Arc::clone(&self.own.borrow_and_update());
            match acceptor(&own.identity, &self.trust, self.oldest) {
                Ok(acceptor) => self.acceptor = acceptor,
                Err(error) => warn!(error = %chain(&error), "the certificate before is presented"),
            }
        }
        self.acceptor.clone()
    }

    pub(crate) async fn run(mut self, listener: TcpListener) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let of_source = Concurrent::new(MAX_HANDSHAKES);
        loop {
            let Ok(slot) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let Ok((tcp, peer)) = listener.accept().await else {
                // Out of file descriptors, usually: let some connections end.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Some(own_slot) = of_source.begin(peer.ip().into()) else {
                debug!(%peer, "too many handshakes under way");
                continue;
            };
            let slots = (slot, own_slot);
            let (acceptor, router) = (self.acceptor(), self.router.clone());
            self.router.spawn(async move {
                if let Err(refused) = serve(acceptor, router, tcp, slots).await {
                    debug!(%peer, error = %chain(&refused), "connection turned away");
                }
            });
        }
    }
}

fn acceptor(
    identity: &Identity,
    trust: &Arc<ClientTrust>,
    oldest: OldestTls,
) -> Result<Acceptor, TlsSetupError> {
    let protocols = [edge::ALPN, link_wire::ALPN];
    let config = identity.server_config(Arc::clone(trust), &protocols, oldest)?;
    Ok(Acceptor::new(config))
}

/// Trusts the CAs that the model names, as it changes.
async fn follow(trust: Arc<ClientTrust>, mut replica: watch::Receiver<Arc<Replica>>) {
    let mut known = Vec::new();
    loop {
        let named = replica.borrow_and_update().client_cas.clone();
        if named != known {
            trust.also_trust(&named);
            known = named;
        }
        if replica.changed().await.is_err() {
            return;
        }
    }
}

async fn serve(
    acceptor: Acceptor,
    router: Router,
    tcp: TcpStream,
    slots: (tokio::sync::OwnedSemaphorePermit, Slot),
) -> Result<(), RefusedConnection> {
    tcp.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(tcp))
        .await
        .map_err(|_late| RefusedConnection::Late)??;
    drop(slots);
    let certificate = stream.peer_certificate();
    let fingerprint = fingerprint(certificate.ok_or(RefusedConnection::NoCertificate)?);
    match stream.protocol() {
        // Clients of 2022 name no protocol.
        None => serve_client(router, stream, fingerprint),
        Some(protocol) if protocol == edge::ALPN => {
            serve_client(router, stream, fingerprint);
        }
        Some(protocol) if protocol == link_wire::ALPN => {
            link::serve(&router, stream, &fingerprint);
        }
        Some(_) => return Err(RefusedConnection::Protocol),
    }
    Ok(())
}

/// Serves a client on the lane that has the fewest.
fn serve_client(router: Router, mut stream: TlsStream, fingerprint: String) {
    let seat = router.lanes().seat();
    let runtime = seat.runtime().clone();
    router.clone().spawn_on(&runtime, async move {
        match stream.move_here() {
            Ok(()) => client::serve(router, stream, fingerprint).await,
            Err(error) => debug!(%error, "client turned away"),
        }
        drop(seat);
    });
}
