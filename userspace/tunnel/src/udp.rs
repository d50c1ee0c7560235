//! Datagrams of programs: one flow for each socket and destination, one message for one datagram.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use nightgate_abi::tunnel::{DNS_SERVICE, Origin, OriginKey};
use nightgate_mirror::flow::EndReason;
use nightgate_sdk::{MAX_MESSAGE, Messages};
use tokio::{
    net::UdpSocket,
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, info};

use crate::{dns, flows::Counts, tunneler::Shared};

/// IP protocol number (IANA).
const UDP: u8 = 17;
/// A flow that has been silent for so long has ended; OpenZiti's tunnelers wait as long.
const IDLE: Duration = Duration::from_secs(300);
/// Datagrams that wait while the service is dialed, or while the overlay takes no more; others are lost, as
/// datagrams may be.
const QUEUE: usize = 128;
/// Flows at one socket of the tunneler.
const MAX_FLOWS: usize = 4_096;
/// DNS queries under way at one socket.
const MAX_QUERIES: usize = 256;

/// Where the datagrams of a flow go.
struct Flow {
    key: OriginKey,
    datagrams: mpsc::Sender<Bytes>,
}

/// Carries what comes to one socket of the tunneler, for ever.
pub(crate) async fn carry_all(socket: UdpSocket, slot: u32, shared: Arc<Shared>) {
    let socket = Arc::new(socket);
    let queries = Arc::new(Semaphore::new(MAX_QUERIES));
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let (length, source) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // What a program answered to an earlier datagram (ICMP) comes here too.
                debug!(%error, "datagram not received");
                continue;
            }
        };
        let datagram = buffer.get(..length).unwrap_or_default();
        // Asked for each: another socket may have the port by now.
        let Some((key, origin)) = shared.origin(source, UDP, slot) else { continue };
        if origin.service == DNS_SERVICE {
            if let Ok(slot) = Arc::clone(&queries).try_acquire_owned() {
                let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
                let query = datagram.to_vec();
                tasks.spawn(async move {
                    answer(&socket, source, &query, &origin, &shared).await;
                    if origin.connected == 0 {
                        shared.forget(&key);
                    }
                    drop(slot);
                });
            }
            continue;
        }
        while tasks.try_join_next().is_some() {}
        let known =
            flows.get(&source).filter(|flow| flow.key == key && !flow.datagrams.is_closed());
        let datagrams = match known {
            Some(flow) => flow.datagrams.clone(),
            None => {
                flows.retain(|_, flow| !flow.datagrams.is_closed());
                if flows.len() >= MAX_FLOWS {
                    continue;
                }
                let (datagrams, waiting) = mpsc::channel(QUEUE);
                let place = (Arc::clone(&socket), source);
                tasks.spawn(carry(place, (key, origin), waiting, Arc::clone(&shared)));
                flows.insert(source, Flow { key, datagrams: datagrams.clone() });
                datagrams
            }
        };
        // A full queue loses it.
        drop(datagrams.try_send(Bytes::copy_from_slice(datagram)));
    }
}

/// Answers a query, or has it answered by the server that was asked.
async fn answer(
    socket: &UdpSocket,
    source: SocketAddr,
    query: &[u8],
    origin: &Origin,
    shared: &Shared,
) {
    let answer = match dns::own_answer(query, shared) {
        Some(answer) => answer,
        None => {
            let server = SocketAddr::new(origin.destination.to_ip(), origin.port);
            match dns::forward(query, server).await {
                Ok(answer) => answer,
                Err(error) => return debug!(%server, %error, "no answer"),
            }
        }
    };
    if let Err(error) = socket.send_to(&answer, source).await {
        debug!(%source, %error, "answer not sent");
    }
}

async fn carry(
    (socket, source): (Arc<UdpSocket>, SocketAddr),
    (key, origin): (OriginKey, Origin),
    mut waiting: mpsc::Receiver<Bytes>,
    shared: Arc<Shared>,
) {
    match shared.admit(&origin, source) {
        Ok(call) => match shared.dial(&call).await {
            Ok(overlay) => {
                let mut entered = shared.flows.enter(call.report());
                let messages = overlay.into_messages();
                let place = (socket.as_ref(), source);
                match exchange(place, &mut waiting, &messages, &entered.counts).await {
                    Ok(EndReason::IdleTimeout) => entered.end(EndReason::IdleTimeout, IDLE),
                    Ok(reason) => entered.end(reason, Duration::ZERO),
                    Err(error) => debug!(service = %call.service, %error, "flow lost"),
                }
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                info!(service = %call.service, command = %call.process.command, error, "not dialed");
            }
        },
        Err(refusal) => info!(%refusal, "datagrams dropped"),
    }
    // A connected socket's next datagram passes no hook that could enter it again.
    if origin.connected == 0 {
        shared.forget(&key);
    }
}

/// Carries datagrams both ways until the flow is silent or the other end has ended it; gives which of the two.
async fn exchange(
    (socket, source): (&UdpSocket, SocketAddr),
    waiting: &mut mpsc::Receiver<Bytes>,
    messages: &Messages,
    counts: &Counts,
) -> std::io::Result<EndReason> {
    let count = |counter: &std::sync::atomic::AtomicU64, length: usize| {
        counter.fetch_add(u64::try_from(length).unwrap_or(u64::MAX), Ordering::Relaxed);
    };
    let mut silent_at = Instant::now() + IDLE;
    loop {
        tokio::select! {
            datagram = waiting.recv() => {
                let Some(datagram) = datagram else { return Ok(EndReason::ForcedEnd) };
                // An empty one cannot be told from no message at all.
                if !datagram.is_empty() {
                    messages.send(&datagram).await?;
                    count(&counts.sent, datagram.len());
                }
            }
            message = messages.recv() => {
                let Some(message) = message? else { return Ok(EndReason::EndOfFlow) };
                socket.send_to(&message, source).await?;
                count(&counts.received, message.len());
            }
            () = tokio::time::sleep_until(silent_at) => {
                messages.shutdown().await?;
                return Ok(EndReason::IdleTimeout);
            }
        }
        silent_at = Instant::now() + IDLE;
    }
}
