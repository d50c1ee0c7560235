//! Where the kernel delivers intercepted datagrams.
//!
//! The datagrams between one client's address and port and one destination's are a flow, which has a circuit of its own;
//! one datagram is one message of it, as OpenZiti's tunnelers do it. A flow ends when nothing has been said for a
//! while, for no datagram says that it is the last one.

mod flows;
pub mod socket;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use nightgate_model::configs::Protocol;
use nightgate_router::{
    Circuit, CircuitReceiver, CircuitSender, Payload,
    datagrams::{EMPTY, datagrams, flags_of},
    flag::MULTIPART,
};
use nightgate_telemetry::{DatagramLoss, End, Metrics};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, warn};

use crate::{
    intercept::InterceptedService,
    interceptor::Interceptor,
    protection::{Opener, Protected, Sealer},
};
use flows::{Flows, Full, Limits};
use socket::{Ends, MAX_DATAGRAM, Receiver, Sender};

/// A socket that receives datagrams to any destination address, and one that answers from there.
#[derive(Debug)]
pub struct DatagramListener {
    receiver: Receiver,
    sender: Arc<Sender>,
}

/// Sockets for intercepted datagrams that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "open sockets for intercepted datagrams at {address}: {source}; expected to run as root or with \
     CAP_NET_ADMIN and CAP_NET_RAW"
)]
pub struct DatagramListenerError {
    address: IpAddr,
    source: io::Error,
}

/// Times without a datagram after which flows end.
#[derive(Clone, Copy, Debug)]
pub struct IdleTimes {
    /// Until the client has been answered.
    pub unanswered: Duration,
    /// Then.
    pub answered: Duration,
}

/// How many flows may be open.
const LIMITS: Limits = Limits { all: 32_768, client: 4_096 };

/// Datagrams of one flow that wait: for its dial, or for room in its circuit. More are lost.
const QUEUE: usize = 128;

/// Bytes of all datagrams that wait.
const QUEUED_BYTES: usize = 64 << 20;

/// For this long the datagrams of a flow that was refused are lost before they lead to another dial.
const REFUSED: Duration = Duration::from_secs(1);

/// A datagram that waits, and its share of [`QUEUED_BYTES`].
type Queued = (Vec<u8>, OwnedSemaphorePermit);

/// A flow that is carried.
struct Flow {
    ends: Ends,
    service: InterceptedService,
    interceptor: Interceptor,
    sender: Arc<Sender>,
    idle: IdleTimes,
}

impl DatagramListener {
    /// Opens the sockets for IPv4 or IPv6, whose loopback address is given.
    ///
    /// # Errors
    /// The process lacks privileges, or the family is switched off.
    pub fn open(loopback: IpAddr) -> Result<Self, DatagramListenerError> {
        let open = || {
            Ok(Self {
                receiver: Receiver::open(SocketAddr::new(loopback, 0))?,
                sender: Arc::new(Sender::open(loopback)?),
            })
        };
        open().map_err(|source| DatagramListenerError { address: loopback, source })
    }

    /// Where datagrams have to be delivered.
    pub fn address(&self) -> SocketAddr {
        self.receiver.address()
    }

    /// Receives and carries datagrams for ever.
    pub async fn run(self, interceptor: Interceptor, idle: IdleTimes) {
        let mut flows: Flows<mpsc::Sender<Queued>> = Flows::new(LIMITS);
        let mut tasks = JoinSet::new();
        let room = Arc::new(Semaphore::new(QUEUED_BYTES));
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let (length, ends) = tokio::select! {
                Some(ended) = tasks.join_next() => {
                    if let Ok(ends) = ended {
                        // It may have begun anew meanwhile.
                        flows.close_if(&ends, mpsc::Sender::is_closed);
                    }
                    continue;
                }
                received = self.receiver.receive(&mut buffer) => match received {
                    Ok(received) => received,
                    Err(error) => {
                        debug!(%error, "intercepted datagrams could not be received");
                        sleep(Duration::from_millis(10)).await;
                        continue;
                    }
                },
            };
            let metrics = &interceptor.metrics;
            let Some(queued) = queued(&buffer[..length], &room) else {
                metrics.datagram_lost(DatagramLoss::Queue);
                continue;
            };
            let queue = match flows.get(&ends) {
                // A flow that has just ended begins anew.
                Some(queue) if !queue.is_closed() => queue,
                known => {
                    if known.is_some() {
                        flows.close(&ends);
                    }
                    let Some(queue) = self.begin(ends, &mut flows, &mut tasks, &interceptor, idle)
                    else {
                        continue;
                    };
                    queue
                }
            };
            if queue.try_send(queued).is_err() {
                metrics.datagram_lost(DatagramLoss::Queue);
            }
        }
    }

    /// Begins a flow, if its client may use a service there and not too many are open.
    fn begin<'a>(
        &self,
        ends: Ends,
        flows: &'a mut Flows<mpsc::Sender<Queued>>,
        tasks: &mut JoinSet<Ends>,
        interceptor: &Interceptor,
        idle: IdleTimes,
    ) -> Option<&'a mpsc::Sender<Queued>> {
        let service = interceptor.service(Protocol::Udp, ends.client, ends.destination)?;
        let (queue, datagrams) = mpsc::channel(QUEUE);
        match flows.open(ends, || queue) {
            Ok(queue) => {
                interceptor.metrics.connection_intercepted();
                let (interceptor, sender) = (interceptor.clone(), Arc::clone(&self.sender));
                let flow = Flow { ends, service, interceptor, sender, idle };
                tasks.spawn(async move {
                    flow.run(datagrams).await;
                    ends
                });
                Some(queue)
            }
            Err(full) => {
                warn!(?full, limit = ?LIMITS, "intercepted datagrams refused: too many flows");
                interceptor.metrics.circuit_refused(End::Dialer, full.cause());
                None
            }
        }
    }
}

impl Full {
    fn cause(self) -> &'static str {
        match self {
            Self::All => "capacity",
            Self::Client => "client-capacity",
        }
    }
}

/// Takes a datagram over, if there is room.
fn queued(datagram: &[u8], room: &Arc<Semaphore>) -> Option<Queued> {
    let length = u32::try_from(datagram.len()).ok()?;
    let permit = Arc::clone(room).try_acquire_many_owned(length).ok()?;
    Some((datagram.to_vec(), permit))
}

impl Flow {
    async fn run(self, mut datagrams: mpsc::Receiver<Queued>) {
        let Self { ends, service, interceptor, .. } = &self;
        let ways = [ends.client, ends.destination];
        let (circuit, protection, _listed) =
            match interceptor.open(service, Protocol::Udp, ways, None).await {
                Ok(opened) => opened,
                Err(error) => {
                    debug!(service = %service.name, ?ends, %error, "intercepted datagrams refused");
                    return lose(&mut datagrams, &interceptor.metrics).await;
                }
            };
        if let Err(error) = self.carry(&mut datagrams, circuit, protection).await {
            debug!(service = %service.name, ?ends, error, "intercepted datagrams ended");
        }
    }

    async fn carry(
        &self,
        queue: &mut mpsc::Receiver<Queued>,
        circuit: Circuit,
        protection: Protected,
    ) -> Result<(), String> {
        let Protected { mut sealer, mut opener, peer, .. } = protection;
        let Circuit { sender, mut receiver, .. } = circuit;
        let metrics = &self.interceptor.metrics;
        if let Some(header) = sealer.header() {
            send(&sender, 0, header).await?;
        }
        let mut takes_empty = peer.is_some();
        let mut limit = self.idle.unanswered;
        let idle = sleep_until(Instant::now() + limit);
        tokio::pin!(idle);
        loop {
            tokio::select! {
                datagram = queue.recv() => {
                    let Some((mut datagram, _permit)) = datagram else { return Ok(()) };
                    if datagram.is_empty() && !takes_empty {
                        metrics.datagram_lost(DatagramLoss::Empty);
                        continue;
                    }
                    metrics.bytes_sent(datagram.len());
                    // A circuit that takes nothing ends, too.
                    let sent = timeout(limit, upload(&sender, &mut sealer, &mut datagram)).await;
                    sent.unwrap_or_else(|_| Err("the circuit takes nothing".to_owned()))?;
                }
                payload = receiver.recv() => {
                    let Some(payload) = payload else { return ended(&receiver) };
                    takes_empty |= payload.flags & MULTIPART != 0;
                    if self.download(&mut opener, payload)? {
                        limit = self.idle.answered;
                    }
                }
                () = &mut idle => return Ok(()),
            }
            idle.as_mut().reset(Instant::now() + limit);
        }
    }

    /// Sends what a message holds to the client. Returns whether that was anything.
    fn download(&self, opener: &mut Opener, payload: Payload) -> Result<bool, String> {
        let Payload { flags, body, .. } = payload;
        let plaintext = opener.open(body, flags).map_err(|error| error.to_string())?;
        let metrics = &self.interceptor.metrics;
        let mut is_answered = false;
        for datagram in datagrams(plaintext, flags) {
            is_answered = true;
            metrics.bytes_received(datagram.len());
            if let Err(error) = self.sender.send(self.ends, &datagram) {
                metrics.datagram_lost(DatagramLoss::Send);
                debug!(ends = ?self.ends, %error, "an answer could not be sent");
            }
        }
        Ok(is_answered)
    }
}

async fn upload(
    circuit: &CircuitSender,
    sealer: &mut Sealer,
    datagram: &mut Vec<u8>,
) -> Result<(), String> {
    let flags = flags_of(datagram);
    if datagram.is_empty() {
        datagram.extend(EMPTY);
    }
    let body = sealer.seal(datagram, flags).map_err(|error| error.to_string())?;
    send(circuit, flags, body).await
}

async fn send(circuit: &CircuitSender, flags: u32, body: Bytes) -> Result<(), String> {
    let payload = Payload { flags, uuid: Bytes::new(), body };
    circuit.send(payload).await.map_err(|error| error.to_string())
}

fn ended(circuit: &CircuitReceiver) -> Result<(), String> {
    circuit.cause().map_or(Ok(()), |cause| Err(cause.to_string()))
}

/// Loses the datagrams of a refused flow for a while.
async fn lose(datagrams: &mut mpsc::Receiver<Queued>, metrics: &Metrics) {
    let over = sleep(REFUSED);
    tokio::pin!(over);
    loop {
        tokio::select! {
            Some(_) = datagrams.recv() => metrics.datagram_lost(DatagramLoss::Refused),
            () = &mut over => return,
        }
    }
}
