//! Accepts connections and hands each to its protocol.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{body::Body, response::IntoResponse as _};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use nightgate_model::control as protocol;
use nightgate_pki::fingerprint;
use nightgate_wire::source::{Concurrent, MAX_HANDSHAKES, Slot, Source};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    control,
    core::Core,
    rest::{self, Failure, Peer},
    trust::ended_at,
};

/// Connections at one time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16_384;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the headers of an HTTP/1.1 request may take.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may take with its body and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest request head, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// Requests at one time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 64;

/// A peer that is silent this long is probed, and given up after three probes.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How long to wait when connections cannot be accepted, for example for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What every connection needs.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) core: Arc<Core>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Listener {
    /// Accepts until stopped; connections end by themselves or when stopped.
    pub(crate) async fn run(self) {
        let acceptor = TlsAcceptor::from(self.tls);
        let router = rest::router(Arc::clone(&self.core));
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let handshakes = Concurrent::new(MAX_HANDSHAKES);
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, source) = match accepted {
                Ok((stream, peer)) => (stream, Source::from(peer.ip())),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let Some(handshake) = handshakes.begin(source) else {
                tracing::debug!(?source, "too many handshakes under way");
                continue;
            };
            let connection = Accepted {
                source,
                acceptor: acceptor.clone(),
                router: router.clone(),
                core: Arc::clone(&self.core),
                stop: self.stop.clone(),
            };
            self.tasks.spawn(async move {
                if let Err(error) = connection.serve(stream, handshake).await {
                    tracing::debug!(%error, "connection ended");
                }
                drop(slot);
            });
        }
    }
}

struct Accepted {
    source: Source,
    acceptor: TlsAcceptor,
    router: axum::Router,
    core: Arc<Core>,
    stop: CancellationToken,
}

/// Why a connection ended before its protocol began, or by itself.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("socket: {0}")]
    Socket(io::Error),
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    #[error("TLS handshake took longer than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    HandshakeTimeout,
    #[error("control channel without a certificate that is good now")]
    NoCertificate,
    #[error("control channel: {0}")]
    Control(#[from] control::ControlError),
    #[error("HTTP: {0}")]
    Http(Box<dyn std::error::Error + Send + Sync>),
}

impl Accepted {
    async fn serve(self, stream: TcpStream, handshake: Slot) -> Result<(), ConnectionError> {
        configure(&stream).map_err(ConnectionError::Socket)?;
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream))
            .await
            .or(Err(ConnectionError::HandshakeTimeout))?
            .map_err(ConnectionError::Handshake)?;
        drop(handshake);
        let (_, session) = stream.get_ref();
        // The first certificate is the one whose key the peer proved to hold.
        let chain = session.peer_certificates().unwrap_or_default();
        let proven = chain.first().map(|certificate| fingerprint(certificate));
        let is_expired = chain.first().and_then(ended_at).is_some();
        if session.alpn_protocol() == Some(protocol::ALPN) {
            let fingerprint = proven.filter(|_| !is_expired);
            let fingerprint = fingerprint.ok_or(ConnectionError::NoCertificate)?;
            self.serve_control(stream, fingerprint).await
        } else {
            let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
            let source = self.source;
            self.serve_http(stream, Peer { fingerprint: proven, is_expired, chain, source }).await
        }
    }

    async fn serve_control(
        self,
        stream: TlsStream<TcpStream>,
        fingerprint: String,
    ) -> Result<(), ConnectionError> {
        tokio::select! {
            () = self.stop.cancelled() => Ok(()),
            error = control::serve(&self.core, stream, fingerprint) => Err(error.into()),
        }
    }

    async fn serve_http(
        self,
        stream: TlsStream<TcpStream>,
        peer: Peer,
    ) -> Result<(), ConnectionError> {
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            answer_in_time(hyper::service::Service::call(&router, request))
        });
        let server = http_server();
        let connection = server.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(ConnectionError::Http),
            () = self.stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await.map_err(ConnectionError::Http)
    }
}

async fn answer_in_time(
    answer: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
        Ok(response) => response,
        Err(_elapsed) => Ok(Failure::timeout().into_response()),
    }
}

fn http_server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(MAX_HEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(KEEPALIVE);
    server
}

/// Finds out about peers that are gone without a word.
fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
