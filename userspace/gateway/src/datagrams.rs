//! Where the kernel delivers intercepted datagrams.
//!
//! The datagrams between one client's address and port and one destination's are a flow, which has a circuit of its own.
//! A flow ends when nothing has been said for a while, for no datagram says that it is the last one.

pub(crate) mod arrivals;
pub(crate) mod departures;
mod flow;
mod flows;
pub(crate) mod messages;
mod queue;
pub(crate) mod silence;
pub mod socket;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    sync::Arc,
    time::Duration,
};

use nightgate_model::configs::Protocol;
use nightgate_telemetry::{DatagramLoss, End};
use tokio::{
    task::{JoinSet, yield_now},
    time::sleep,
};
use tracing::{debug, warn};

use crate::interceptor::Interceptor;
use arrivals::{AT_ONCE, Arrival};
use flow::Flow;
use flows::{Flows, Full, Limits};
use queue::{Queue, Room};
use socket::{Ends, Receiver, Sender};

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

/// The flows that are open, and what new ones begin with.
struct Carrying {
    flows: Flows<Queue>,
    /// One for each flow; they end with this.
    tasks: JoinSet<Ends>,
    room: Arc<Room>,
    sender: Arc<Sender>,
    interceptor: Interceptor,
    idle: IdleTimes,
}

impl DatagramListener {
    /// Opens the sockets for IPv4 or IPv6, whose loopback address is given.
    ///
    /// # Errors
    /// The process lacks privileges, or the family is switched off.
    pub fn open(loopback: IpAddr) -> Result<Self, DatagramListenerError> {
        let open = || {
            let receiver = Receiver::open(SocketAddr::new(loopback, 0))?;
            receiver.join()?;
            Ok(Self { receiver, sender: Arc::new(Sender::open(loopback)?) })
        };
        open().map_err(|source| DatagramListenerError { address: loopback, source })
    }

    /// Where datagrams have to be delivered.
    pub fn address(&self) -> SocketAddr {
        self.receiver.address()
    }

    /// The socket that receives them.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }

    /// Receives datagrams for ever; each flow is carried on the lane that has the fewest.
    pub async fn run(self, interceptor: Interceptor, idle: IdleTimes) {
        let Self { receiver, sender } = self;
        let (flows, tasks, room) = (Flows::new(LIMITS), JoinSet::new(), Arc::default());
        let mut carrying = Carrying { flows, tasks, room, sender, interceptor, idle };
        loop {
            tokio::select! {
                Some(ended) = carrying.tasks.join_next() => {
                    if let Ok(ends) = ended {
                        // It may have begun anew meanwhile.
                        carrying.flows.close_if(&ends, Queue::is_closed);
                    }
                    continue;
                }
                () = receiver.readable() => {}
            }
            match receiver.read(|ends, arrival| carrying.take(ends, arrival)) {
                // More waits, and the flows shall have their turn first.
                Ok(AT_ONCE) => yield_now().await,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    debug!(%error, "intercepted datagrams could not be received");
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

impl Carrying {
    /// Takes datagrams of a flow over, which may begin with them.
    fn take(&mut self, ends: Ends, arrival: &Arrival<'_>) {
        let is_open = self.flows.get(&ends).is_some_and(|queue| !queue.is_closed());
        if !is_open {
            // A flow that has just ended begins anew.
            self.flows.close(&ends);
            self.begin(ends);
        }
        if let Some(queue) = self.flows.get(&ends) {
            let lost = queue.push(arrival.datagrams());
            self.interceptor.metrics.datagrams_lost(DatagramLoss::Queue, lost);
        }
    }

    /// Begins a flow, if its client may use a service there and not too many are open.
    fn begin(&mut self, ends: Ends) {
        let Self { flows, interceptor, .. } = self;
        let service = interceptor.service(Protocol::Udp, ends.client, ends.destination);
        let Some(service) = service else { return };
        let (queue, waiting) = Queue::new(&self.room);
        match flows.open(ends, || queue) {
            Ok(_) => {
                interceptor.metrics.connection_intercepted();
                let (interceptor, sender) = (interceptor.clone(), Arc::clone(&self.sender));
                let flow = Flow { ends, service, interceptor, sender, idle: self.idle };
                let seat = flow.interceptor.router.lanes().seat();
                let runtime = seat.runtime().clone();
                let run = async move {
                    flow.run(waiting).await;
                    drop(seat);
                    ends
                };
                self.tasks.spawn_on(run, &runtime);
            }
            Err(full) => {
                warn!(?full, limit = ?LIMITS, "intercepted datagrams refused: too many flows");
                interceptor.metrics.circuit_refused(End::Dialer, full.cause());
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
