//! Links to other routers: several connections each, over which frames move.

mod accepted;
mod batch;
mod dialer;
mod hello;
mod loss;
mod stream;

use std::{
    collections::BTreeSet,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nightgate_fabric::{Lane, LinkId};
use nightgate_identity::fingerprint;
use nightgate_model::{id::RouterId, replica::ReplicaRouter};
use nightgate_tls::TlsStream;
use nightgate_wire::link::{LinkFrameError, VERSION};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tracing::debug;

pub use self::loss::LOOK_EVERY;
pub(crate) use self::{accepted::Accepted, dialer::Dialer};
use self::{
    hello::say_hello,
    loss::count_losses,
    stream::{FrameReader, read, write},
};
use crate::{Router, actor::Event, control::chain, outbox::Outbox, traffic};

/// A connection stands by then, or is tried again.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Both hellos must have come by then.
const HELLO_TIME: Duration = Duration::from_secs(5);

/// Bytes that may wait in the kernel before they are sent for the first time: what is urgent overtakes the rest
/// until it is there (`TCP_NOTSENT_LOWAT`, tcp(7)).
const NOT_SENT: u32 = 128 * 1024;

/// Connections of a link, when the configuration says nothing.
const CONNECTIONS: usize = 2;

/// The group of routers whose configuration names none.
const GROUP: &str = "default";

static NEXT_LINK: AtomicU64 = AtomicU64::new(1);

/// Which links a router makes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkConfig {
    /// Connections to each router that it dials, 1 to 8. A circuit keeps to one of them.
    pub connections: usize,
    /// What each of its links costs besides the milliseconds of its round trip, at least 1. Of a link's two ends, the
    /// dearer counts.
    pub cost: u16,
    /// It links to listening routers of these groups.
    pub dial: BTreeSet<String>,
    /// Routers of these groups may link to it.
    pub listen: BTreeSet<String>,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let groups = BTreeSet::from([GROUP.to_owned()]);
        Self { connections: CONNECTIONS, cost: 1, dial: groups.clone(), listen: groups }
    }
}

/// Why a connection of a link ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the router is unknown, disabled, or presented another router's certificate")]
    Unauthorized,
    #[error("the address {address:?} is not host:port")]
    Address { address: String },
    #[error("no connection within {} s", CONNECT_TIME.as_secs())]
    Late,
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    #[error("the neighbour broke the protocol")]
    Frame(#[from] LinkFrameError),
    #[error("the neighbour did not say hello, or speaks another version than {VERSION}")]
    Hello,
    #[error("the neighbour listens for the link groups {theirs}; this router dials {ours}")]
    Groups { ours: String, theirs: String },
    #[error("the neighbour has as many connections to this router as it may")]
    TooMany,
    #[error("the neighbour dials this router itself")]
    Duplicate,
    #[error("the link was closed")]
    Closed,
}

/// Which end of a connection this router is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Dialer,
    Listener,
}

/// Serves an accepted connection until it ends, on a lane of its own as far as there are as many.
pub(crate) fn serve(router: &Router, stream: TlsStream, fingerprint: &str) {
    let admitted = known(router, fingerprint).ok_or(LinkError::Unauthorized).and_then(|peer| {
        let accepted = router.accepted.add(&peer.id).ok_or(LinkError::TooMany)?;
        Ok((peer, accepted))
    });
    let (peer, accepted) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return debug!(error = %chain(&error), "link turned away"),
    };
    let (lane, own) = (lane(router, &peer.id, accepted.number()), router.clone());
    router.spawn_on(router.lanes().runtime(lane), async move {
        if let Err(error) = try_serve(&own, stream, &peer).await {
            debug!(error = %chain(&error), "accepted link ended");
        }
        drop(accepted);
    });
}

/// Where a connection of a link is carried: those of one neighbour on different lanes, and not all first ones on the same.
fn lane(router: &Router, peer: &RouterId, number: usize) -> Lane {
    let first: usize = peer.as_str().bytes().map(usize::from).sum();
    router.lanes().in_turn(first + number)
}

async fn try_serve(
    router: &Router,
    mut stream: TlsStream,
    peer: &ReplicaRouter,
) -> Result<(), LinkError> {
    stream.move_here()?;
    let tcp = stream.tcp();
    prepare(tcp)?;
    let socket = tcp.as_fd().try_clone_to_owned()?;
    run(router, (Side::Listener, socket), stream, peer).await
}

fn known(router: &Router, fingerprint: &str) -> Option<ReplicaRouter> {
    router.replica.borrow().router_by_fingerprint(fingerprint).cloned()
}

fn prepare(tcp: &TcpStream) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    socket2::SockRef::from(tcp).set_tcp_notsent_lowat(NOT_SENT)
}

/// Tells the actor of the connection's end, however it ends.
struct Up<'a>(&'a Router, LinkId);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.tell(Event::LinkDown(self.1));
    }
}

async fn run<S>(
    router: &Router,
    (side, socket): (Side, OwnedFd),
    stream: S,
    peer: &ReplicaRouter,
) -> Result<(), LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, writer) = tokio::io::split(stream);
    let (mut reader, mut writer) = (FrameReader::new(reader), writer);
    let hello = say_hello(side, &router.links, &mut reader, &mut writer);
    tokio::time::timeout(HELLO_TIME, hello).await.map_err(|_late| LinkError::Hello)??;
    let link = LinkId(NEXT_LINK.fetch_add(1, Ordering::Relaxed));
    let (outbox, outgoing) = Outbox::new();
    let traffic = outgoing.traffic();
    let (id, lane) = (peer.id.clone(), traffic::here());
    router.tell(Event::LinkUp { link, peer: id, lane, outbox });
    let _up = Up(router, link);
    tokio::select! {
        ended = write(outgoing, writer) => ended,
        ended = read(router, (link, Arc::clone(&traffic)), reader) => ended,
        ended = count_losses(socket, &traffic) => ended,
        () = revoked(router, peer) => Err(LinkError::Unauthorized),
    }
}

/// Ends when the model no longer knows the neighbour, or not by the certificate that it presented or one that followed.
async fn revoked(router: &Router, peer: &ReplicaRouter) {
    let mut replica = router.replica();
    let gone = replica
        .wait_for(|now| now.router(&peer.id).is_none_or(|known| known.origin != peer.origin));
    drop(gone.await);
}
