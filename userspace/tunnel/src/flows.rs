//! What is carried right now, for people.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use nightgate_model::configs::Protocol;
use serde::{Deserialize, Serialize};

use crate::process::Process;

/// A connection or UDP flow of a program.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FlowReport {
    /// By which protocol.
    pub protocol: Protocol,
    /// Where the program wanted to.
    pub destination: SocketAddr,
    /// The name it asked for, if it was one of a service.
    pub name: Option<String>,
    /// The service.
    pub service: String,
    /// The program.
    pub process: Process,
    /// How long it has been there, in seconds.
    pub age: u64,
    /// Bytes from the program.
    pub sent: u64,
    /// Bytes to it.
    pub received: u64,
}

/// Everything that is carried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flows(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    flows: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    what: FlowReport,
    since: Instant,
    counts: Arc<Counts>,
}

/// Bytes of one flow.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

/// A flow in the table; dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Entered {
    flows: Flows,
    number: u64,
    pub(crate) counts: Arc<Counts>,
}

impl Flows {
    /// Enters a flow that begins now.
    pub(crate) fn enter(&self, what: FlowReport) -> Entered {
        let counts = Arc::new(Counts::default());
        let mut table = self.lock();
        let number = table.next;
        table.next = number.wrapping_add(1);
        let entry = Entry { what, since: Instant::now(), counts: Arc::clone(&counts) };
        table.flows.insert(number, entry);
        Entered { flows: self.clone(), number, counts }
    }

    /// All of them, the oldest first.
    pub(crate) fn report(&self) -> Vec<FlowReport> {
        let table = self.lock();
        let report = |entry: &Entry| FlowReport {
            age: entry.since.elapsed().as_secs(),
            sent: entry.counts.sent.load(Ordering::Relaxed),
            received: entry.counts.received.load(Ordering::Relaxed),
            ..entry.what.clone()
        };
        table.flows.values().map(report).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.flows.lock().flows.remove(&self.number);
    }
}
