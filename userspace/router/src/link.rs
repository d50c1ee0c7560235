//! Links to other routers: dialing, accepting, and moving frames.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use nightgate_fabric::LinkId;
use nightgate_identity::{Identity, TlsSetupError, fingerprint};
use nightgate_model::{id::RouterId, replica::ReplicaRouter};
use nightgate_wire::{
    Headers,
    link::{ALPN, Frame, LinkFrameError, VERSION, header},
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;
use tracing::{debug, warn};

use crate::{Router, actor::Event, backoff::Backoff, control::chain};

/// Both hellos must have come by then.
const HELLO_TIME: Duration = Duration::from_secs(5);

/// Frames are gathered up to this many bytes before they are written.
const WRITE_BATCH: usize = 64 * 1024;

static NEXT_LINK: AtomicU64 = AtomicU64::new(1);

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the router is unknown, disabled, or presented another router's certificate")]
    Unauthorized,
    #[error("the address {address:?} is not host:port")]
    Address { address: String },
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    #[error("the neighbour broke the protocol")]
    Frame(#[from] LinkFrameError),
    #[error("the neighbour did not say hello, or speaks another version than {VERSION}")]
    Hello,
    #[error("the link was closed")]
    Closed,
}

/// Dials every router that listens.
pub(crate) struct Dialer {
    router: Router,
    connector: TlsConnector,
    dialing: HashMap<RouterId, (String, JoinHandle<()>)>,
}

impl Dialer {
    pub(crate) fn new(identity: &Identity, router: Router) -> Result<Self, TlsSetupError> {
        let connector = TlsConnector::from(Arc::new(identity.client_config(&[ALPN])?));
        Ok(Self { router, connector, dialing: HashMap::new() })
    }

    pub(crate) async fn run(mut self) {
        let mut replica = self.router.replica();
        while replica.changed().await.is_ok() {
            let routers = replica.borrow_and_update().routers.clone();
            let wanted = wanted(self.router.id(), &routers);
            self.dialing.retain(|id, (address, task)| {
                let keep = wanted.get(id) == Some(address);
                if !keep {
                    task.abort();
                }
                keep
            });
            for (id, address) in wanted {
                if !self.dialing.contains_key(&id) {
                    let task = keep_link(
                        self.router.clone(),
                        self.connector.clone(),
                        id.clone(),
                        address.clone(),
                    );
                    self.dialing.insert(id, (address, tokio::spawn(task)));
                }
            }
        }
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        for (_, task) in self.dialing.values() {
            task.abort();
        }
    }
}

/// The routers to dial: all that listen; of two that both listen, the one with the smaller id dials.
fn wanted(own: &RouterId, routers: &[ReplicaRouter]) -> HashMap<RouterId, String> {
    let listening = routers.iter().any(|router| router.id == *own && router.address.is_some());
    routers
        .iter()
        .filter(|router| router.id != *own && (!listening || own < &router.id))
        .filter_map(|router| Some((router.id.clone(), router.address.clone()?)))
        .collect()
}

async fn keep_link(router: Router, connector: TlsConnector, peer: RouterId, address: String) {
    let mut backoff = Backoff::new();
    loop {
        let outcome = dial(&router, &connector, &peer, &address, &mut backoff).await;
        if router.is_stopping() {
            return;
        }
        if let Err(error) = outcome {
            warn!(%peer, %address, error = %chain(&error), "link down; dialing again");
        }
        backoff.wait().await;
    }
}

async fn dial(
    router: &Router,
    connector: &TlsConnector,
    peer: &RouterId,
    address: &str,
    backoff: &mut Backoff,
) -> Result<(), LinkError> {
    let wrong = || LinkError::Address { address: address.to_owned() };
    let (host, _) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_not_a_name| wrong())?;
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let stream = connector.connect(name, tcp).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let fingerprint = fingerprint(certificate.ok_or(LinkError::Unauthorized)?);
    if known(router, &fingerprint).as_ref() != Some(peer) {
        return Err(LinkError::Unauthorized);
    }
    backoff.reset();
    run(router, stream, peer, &fingerprint).await
}

/// Serves an accepted link until it ends.
pub(crate) async fn serve<S>(router: Router, stream: S, fingerprint: String)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let outcome = match known(&router, &fingerprint) {
        Some(peer) => run(&router, stream, &peer, &fingerprint).await,
        None => Err(LinkError::Unauthorized),
    };
    if let Err(error) = outcome {
        debug!(error = %chain(&error), "accepted link ended");
    }
}

fn known(router: &Router, fingerprint: &str) -> Option<RouterId> {
    let replica = router.replica.borrow();
    replica.router_by_fingerprint(fingerprint).map(|known| known.id.clone())
}

/// Tells the actor of the link's end, however it ends.
struct Up<'a>(&'a Router, LinkId);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.tell(Event::LinkDown(self.1));
    }
}

async fn run<S>(
    router: &Router,
    stream: S,
    peer: &RouterId,
    fingerprint: &str,
) -> Result<(), LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, writer) = tokio::io::split(stream);
    let (mut reader, mut writer) = (FrameReader::new(reader), writer);
    let hello = tokio::time::timeout(HELLO_TIME, say_hello(&mut reader, &mut writer));
    hello.await.map_err(|_late| LinkError::Hello)??;
    let link = LinkId(NEXT_LINK.fetch_add(1, Ordering::Relaxed));
    // Unbounded, but never longer than the windows of the circuits on the link.
    let (frames, outgoing) = mpsc::unbounded_channel();
    router.tell(Event::LinkUp { link, peer: peer.clone(), frames });
    let _up = Up(router, link);
    tokio::select! {
        ended = write(outgoing, writer) => ended,
        ended = read(router, link, reader) => ended,
        () = revoked(router, fingerprint) => Err(LinkError::Unauthorized),
    }
}

async fn say_hello<R, W>(reader: &mut FrameReader<R>, writer: &mut W) -> Result<(), LinkError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut headers = Headers::new();
    headers.put_u32(header::VERSION, VERSION);
    let mut wire = BytesMut::new();
    Frame::Hello(headers).encode(&mut wire);
    writer.write_all(&wire).await?;
    writer.flush().await?;
    let answer = reader.next().await?;
    let Frame::Hello(headers) = answer else { return Err(LinkError::Hello) };
    if headers.u32(header::VERSION) != Some(VERSION) {
        return Err(LinkError::Hello);
    }
    Ok(())
}

/// Ends when the model no longer knows the neighbour.
async fn revoked(router: &Router, fingerprint: &str) {
    let mut replica = router.replica();
    let gone = replica.wait_for(|replica| replica.router_by_fingerprint(fingerprint).is_none());
    drop(gone.await);
}

async fn read<R: AsyncRead + Unpin>(
    router: &Router,
    link: LinkId,
    mut reader: FrameReader<R>,
) -> Result<(), LinkError> {
    loop {
        let frame = reader.next().await?;
        router.tell(Event::Frame(link, frame));
    }
}

async fn write<W: AsyncWrite + Unpin>(
    mut frames: mpsc::UnboundedReceiver<Frame>,
    mut writer: W,
) -> Result<(), LinkError> {
    let mut wire = BytesMut::with_capacity(WRITE_BATCH);
    while let Some(frame) = frames.recv().await {
        frame.encode(&mut wire);
        while wire.len() < WRITE_BATCH
            && let Ok(frame) = frames.try_recv()
        {
            frame.encode(&mut wire);
        }
        writer.write_all_buf(&mut wire).await?;
        writer.flush().await?;
    }
    Err(LinkError::Closed)
}

struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(WRITE_BATCH) }
    }

    async fn next(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer)? {
                return Ok(frame);
            }
            self.buffer.reserve(WRITE_BATCH);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(LinkError::Closed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(id: &str, address: Option<&str>) -> ReplicaRouter {
        ReplicaRouter {
            id: RouterId::new(id),
            name: id.into(),
            fingerprint: String::new(),
            address: address.map(Into::into),
        }
    }

    #[test]
    fn of_two_listening_routers_exactly_one_dials() {
        let routers = [router("a", Some("a:443")), router("b", Some("b:443")), router("c", None)];
        let dialed = |own: &str| wanted(&RouterId::new(own), &routers).len();
        assert_eq!((dialed("a"), dialed("b"), dialed("c")), (1, 0, 2));
    }
}
