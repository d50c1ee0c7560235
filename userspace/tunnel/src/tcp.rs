//! Connections of programs.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use nightgate_abi::tunnel::{DNS_SERVICE, Origin};
use nightgate_gateway::{carry::reset, sight::Sight};
use nightgate_mirror::flow::EndReason;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tracing::{debug, info, warn};

use crate::{dns, flows::Counts, shared::Shared};

/// IP protocol number (IANA).
const TCP: u8 = 6;

/// Connections carried at one time; more are reset.
const MAX_CONNECTIONS: usize = 32_768;

/// Accepts and carries connections for ever.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the program left before it was accepted.
                debug!(%error, "connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            warn!(limit = MAX_CONNECTIONS, "connection reset: too many");
            reset(stream);
            continue;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            serve(stream, source, &shared).await;
            drop(slot);
        });
    }
}

async fn serve(mut stream: TcpStream, source: SocketAddr, shared: &Shared) {
    let found = if shared.at_interfaces {
        let destination = stream.local_addr().ok();
        destination.and_then(|it| shared.taken(source, it, TCP)).map(|origin| (None, origin))
    } else {
        shared.origin(source, TCP, 0).map(|(key, origin)| (Some(key), origin))
    };
    let Some((key, origin)) = found else {
        debug!(%source, "nobody was turned here from there");
        reset(stream);
        return;
    };
    if origin.service == DNS_SERVICE {
        let server = SocketAddr::new(origin.destination.to_ip(), origin.port);
        let own = |query: &[u8]| dns::own_answer(query, shared);
        let server_of = (server, shared.own_mark());
        if let Err(error) = dns::stream::serve(&mut stream, server_of, own).await {
            debug!(%server, %error, "DNS connection lost");
            reset(stream);
        }
    } else {
        carry(stream, source, &origin, shared).await;
    }
    if let Some(key) = key {
        shared.forget(&key);
    }
}

async fn carry(mut stream: TcpStream, source: SocketAddr, origin: &Origin, shared: &Shared) {
    let call = match shared.admit(origin, source) {
        Ok(call) => call,
        Err(refusal) => {
            info!(%refusal, "connection reset");
            reset(stream);
            return;
        }
    };
    let (mut overlay, begun) = match shared.dial(&call, Some(&stream)).await {
        Ok(dialed) => dialed,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            info!(service = %call.service, command = %call.process.command, error, "not dialed");
            reset(stream);
            return;
        }
    };
    let mut entered = shared.flows.enter(call.report());
    let prepared = stream.set_nodelay(true);
    let mut counted =
        Counted { stream: &mut stream, counts: &entered.counts, sight: entered.sight() };
    let ended = async {
        prepared?;
        // The circuit has begun with it.
        counted.read_exact(&mut vec![0; begun]).await?;
        copy_bidirectional(&mut counted, &mut overlay).await
    }
    .await;
    match ended {
        Ok(_) => entered.end(EndReason::EndOfFlow, Duration::ZERO),
        Err(error) => {
            debug!(service = %call.service, %error, "connection lost");
            // What was cut must not look complete.
            reset(stream);
        }
    }
}

/// The side of a connection that is no circuit's, counted.
pub(crate) struct Counted<'a> {
    pub(crate) stream: &'a mut TcpStream,
    pub(crate) counts: &'a Counts,
    pub(crate) sight: Sight,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        self.sight.look(read);
        self.counts.add_sent(read.len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream).poll_write(context, bytes))?;
        self.counts.add_received(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}
