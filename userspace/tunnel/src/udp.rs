//! Datagrams of programs: one flow for each socket and destination, one message for one datagram.

mod entrance;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use nightgate_abi::tunnel::{DNS_SERVICE, OriginKey};
use nightgate_mirror::flow::EndReason;
use nightgate_sdk::{MAX_MESSAGE, Messages};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, info};

use crate::{dns, flows::Counts, shared::Shared};

/// A flow that has been silent for so long has ended; OpenZiti's tunnelers wait as long.
const IDLE: Duration = Duration::from_secs(300);
/// Datagrams that wait while the service is dialed, or while the overlay takes no more; others are lost, as
/// datagrams may be.
const QUEUE: usize = 128;
/// Flows at one socket of the tunneler.
const MAX_FLOWS: usize = 4_096;
/// DNS queries under way at one socket.
const MAX_QUERIES: usize = 256;

pub(crate) use entrance::Entrance;
use entrance::{Arrival, Reply};

/// Where the datagrams of a flow go.
struct Flow {
    key: Option<OriginKey>,
    datagrams: mpsc::Sender<Bytes>,
}

/// Carries what comes in at one entrance of the tunneler, for ever.
pub(crate) async fn carry_all(entrance: Entrance, shared: Arc<Shared>) {
    let queries = Arc::new(Semaphore::new(MAX_QUERIES));
    let mut flows: HashMap<(SocketAddr, SocketAddr), Flow> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let (length, arrival) = match entrance.receive(&mut buffer, &shared).await {
            Ok((length, Some(arrival))) => (length, arrival),
            Ok((_, None)) => continue,
            Err(error) => {
                // What a program answered to an earlier datagram (ICMP) comes here too.
                debug!(%error, "datagram not received");
                continue;
            }
        };
        let datagram = buffer.get(..length).unwrap_or_default();
        while tasks.try_join_next().is_some() {}
        if arrival.origin.service == DNS_SERVICE {
            if let Ok(slot) = Arc::clone(&queries).try_acquire_owned() {
                let (query, shared) = (datagram.to_vec(), Arc::clone(&shared));
                tasks.spawn(async move {
                    answer(&arrival, &query, &shared).await;
                    arrival.forget(&shared);
                    drop(slot);
                });
            }
            continue;
        }
        let (ends, key) = (arrival.ends(), arrival.key);
        let known = flows.get(&ends).filter(|flow| flow.key == key && !flow.datagrams.is_closed());
        let datagrams = match known {
            Some(flow) => flow.datagrams.clone(),
            None => {
                flows.retain(|_, flow| !flow.datagrams.is_closed());
                if flows.len() >= MAX_FLOWS {
                    continue;
                }
                let (datagrams, waiting) = mpsc::channel(QUEUE);
                tasks.spawn(carry(arrival, waiting, Arc::clone(&shared)));
                flows.insert(ends, Flow { key, datagrams: datagrams.clone() });
                datagrams
            }
        };
        // A full queue loses it.
        drop(datagrams.try_send(Bytes::copy_from_slice(datagram)));
    }
}

/// Answers a query, or has it answered by the server that was asked.
async fn answer(arrival: &Arrival, query: &[u8], shared: &Shared) {
    let answer = match dns::own_answer(query, shared) {
        Some(answer) => answer,
        None => {
            let (_, server) = arrival.ends();
            match dns::forward(query, server, shared.own_mark()).await {
                Ok(answer) => answer,
                Err(error) => return debug!(%server, %error, "no answer"),
            }
        }
    };
    if let Err(error) = arrival.reply.send(&answer).await {
        debug!(source = %arrival.source, %error, "answer not sent");
    }
}

async fn carry(arrival: Arrival, mut waiting: mpsc::Receiver<Bytes>, shared: Arc<Shared>) {
    match shared.admit(&arrival.origin, arrival.source) {
        Ok(call) => match shared.dial(&call, None).await {
            Ok((overlay, _)) => {
                let mut entered = shared.flows.enter(call.report());
                let messages = overlay.into_messages();
                let (reply, counts) = (&arrival.reply, Arc::clone(&entered.counts));
                match exchange(reply, &mut waiting, &messages, &counts).await {
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
    arrival.forget(&shared);
}

/// Carries datagrams both ways until the flow is silent or the other end has ended it; gives which of the two.
async fn exchange(
    reply: &Reply,
    waiting: &mut mpsc::Receiver<Bytes>,
    messages: &Messages,
    counts: &Counts,
) -> std::io::Result<EndReason> {
    let mut silent_at = Instant::now() + IDLE;
    loop {
        tokio::select! {
            datagram = waiting.recv() => {
                let Some(datagram) = datagram else { return Ok(EndReason::ForcedEnd) };
                if !datagram.is_empty() || messages.takes_empty() {
                    messages.send(&datagram).await?;
                    counts.add_sent(datagram.len());
                }
            }
            message = messages.recv() => {
                let Some(message) = message? else { return Ok(EndReason::EndOfFlow) };
                reply.send(&message).await?;
                counts.add_received(message.len());
            }
            () = tokio::time::sleep_until(silent_at) => {
                messages.shutdown().await?;
                return Ok(EndReason::IdleTimeout);
            }
        }
        silent_at = Instant::now() + IDLE;
    }
}
