//! What is carried right now, for people; and what it was when it has ended, for the records of flows.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nightgate_gateway::{
    clock::Clock,
    lingering::{Ends, FlowNumber, Lingering},
    sight::Sight,
};
use nightgate_mirror::flow::{EndReason, TlsClient};
use nightgate_model::configs::Protocol;
use nightgate_telemetry::Metrics;
use serde::{Deserialize, Serialize};

use crate::{
    process::Process,
    records::{Records, Told},
};

/// A connection or UDP flow of a program, or to a server that is hosted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FlowReport {
    /// By which protocol.
    pub protocol: Protocol,
    /// Whence the program sent, or the tunneler to the server.
    pub source: SocketAddr,
    /// Where the program wanted to, or the server.
    pub destination: SocketAddr,
    /// The name it asked for, if it was one of a service.
    pub name: Option<String>,
    /// The service.
    pub service: String,
    /// Who dialed, if it is hosted.
    #[serde(default)]
    pub dialer: Option<String>,
    /// The program; unknown where the hooks are on interfaces, and none if it is hosted.
    pub process: Option<Process>,
    /// How long it has been there, in seconds.
    pub age: u64,
    /// Bytes from the program or the server.
    pub sent: u64,
    /// Bytes to it.
    pub received: u64,
}

/// Everything that is carried.
#[derive(Clone, Debug)]
pub(crate) struct Flows {
    table: Arc<Mutex<Table>>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    flows: BTreeMap<u64, Entry>,
    /// Where ended ones are told of, if anywhere.
    records: Option<Records>,
    /// What is said of packets, if anybody asks.
    lingering: Option<Words>,
}

/// What is said of a packet, by the ends of its flow, also a moment after that has ended.
struct Words {
    words: Box<dyn Fn(&FlowReport) -> String + Send>,
    flows: Lingering<String>,
}

#[derive(Debug)]
struct Entry {
    what: FlowReport,
    since: Instant,
    /// The same in nanoseconds since boot (`CLOCK_MONOTONIC`).
    start: u64,
    /// When it was told of last.
    told: Instant,
    /// What its program has said of TLS.
    tls: Option<TlsClient>,
    counts: Arc<Counts>,
    /// Among those that packets are looked up in.
    lingering: Option<FlowNumber>,
}

/// Bytes of one flow, which count in the metrics too.
#[derive(Debug)]
pub(crate) struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    metrics: Metrics,
}

/// A flow in the table; dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Entered {
    flows: Flows,
    number: u64,
    pub(crate) counts: Arc<Counts>,
    /// How it has ended, and how long it had been silent then.
    ending: (EndReason, Duration),
}

impl Flows {
    /// None yet; those that end are told to `records`.
    pub(crate) fn new(records: Option<Records>, metrics: Metrics) -> Self {
        let table = Table { records, ..Table::default() };
        Self { table: Arc::new(Mutex::new(table)), metrics }
    }

    /// Enters a flow that begins now.
    pub(crate) fn enter(&self, what: FlowReport) -> Entered {
        let counts = Arc::new(Counts::new(self.metrics.clone()));
        let mut table = self.lock();
        let number = table.next;
        table.next = number.wrapping_add(1);
        let (since, start) = (Instant::now(), now());
        let counted = Arc::clone(&counts);
        let lingering = table.lingering.as_mut().map(|words| words.enter(&what));
        let (told, tls) = (since, None);
        let entry = Entry { what, since, start, told, tls, counts: counted, lingering };
        table.flows.insert(number, entry);
        // Whoever does not come to say how it ends was stopped.
        let ending = (EndReason::ForcedEnd, Duration::ZERO);
        Entered { flows: self.clone(), number, counts, ending }
    }

    /// All of them, the oldest first.
    pub(crate) fn report(&self) -> Vec<FlowReport> {
        let table = self.lock();
        table.flows.values().map(Entry::report).collect()
    }

    /// From now on, flows are found by their ends, with what `words` says of them.
    pub(crate) fn linger(&self, words: impl Fn(&FlowReport) -> String + Send + 'static) {
        let flows = Lingering::default();
        self.lock().lingering = Some(Words { words: Box::new(words), flows });
    }

    /// What was said of the flow between two ends, in either order.
    pub(crate) fn find(&self, ends: Ends) -> Option<String> {
        self.lock().lingering.as_mut()?.flows.find(ends).cloned()
    }

    /// Tells of those that have not been told of for the time that the records ask for.
    pub(crate) fn tell_long(&self) {
        let Table { flows, records, .. } = &mut *self.lock();
        let Some((records, interim)) = records.as_ref().and_then(|it| Some((it, it.interim?)))
        else {
            return;
        };
        for entry in flows.values_mut().filter(|entry| entry.told.elapsed() >= interim) {
            entry.told = Instant::now();
            entry.tell(records, (EndReason::ActiveTimeout, Duration::ZERO));
        }
    }

    /// Tells of what is left, and delivers the records that wait; what ends later is told of no more.
    pub(crate) async fn close(&self) {
        let records = self.lock().end_all();
        if let Some(records) = records {
            records.outputs.close().await;
        }
    }

    /// Where their bytes count.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().flows.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Words {
    fn enter(&mut self, what: &FlowReport) -> FlowNumber {
        let ends = (what.protocol.number(), [what.source, what.destination]);
        self.flows.enter(ends, (self.words)(what))
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("flows", &self.flows).finish_non_exhaustive()
    }
}

impl Table {
    fn end_all(&mut self) -> Option<Records> {
        let records = self.records.take()?;
        for entry in self.flows.values() {
            entry.tell(&records, (EndReason::ForcedEnd, Duration::ZERO));
        }
        Some(records)
    }
}

impl Entry {
    fn report(&self) -> FlowReport {
        FlowReport {
            age: self.since.elapsed().as_secs(),
            sent: self.counts.sent.load(Ordering::Relaxed),
            received: self.counts.received.load(Ordering::Relaxed),
            ..self.what.clone()
        }
    }

    fn tell(&self, records: &Records, (reason, silence): (EndReason, Duration)) {
        let silence = u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX);
        let times = [self.start, now().saturating_sub(silence).max(self.start)];
        records.tell(&Told { what: &self.report(), tls: self.tls.as_ref(), times, reason });
    }
}

impl Counts {
    fn new(metrics: Metrics) -> Self {
        Self { sent: AtomicU64::new(0), received: AtomicU64::new(0), metrics }
    }

    /// Counts bytes that go into the circuit.
    pub(crate) fn add_sent(&self, bytes: usize) {
        self.metrics.bytes_sent(bytes);
        self.sent.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts bytes that have come out of it.
    pub(crate) fn add_received(&self, bytes: usize) {
        self.metrics.bytes_received(bytes);
        self.received.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Entered {
    /// It ends for this reason, after it has been silent for so long.
    pub(crate) fn end(&mut self, reason: EndReason, silence: Duration) {
        self.ending = (reason, silence);
    }

    /// Looks at what the program says first, if anybody is told of it.
    pub(crate) fn sight(&self) -> Sight {
        if self.flows.lock().records.is_none() {
            return Sight::default();
        }
        let (flows, number) = (self.flows.clone(), self.number);
        Sight::new(move |client| {
            if let Some(entry) = flows.lock().flows.get_mut(&number) {
                entry.tls = Some(client);
            }
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let table = &mut *self.flows.lock();
        let Some(entry) = table.flows.remove(&self.number) else { return };
        if let Some((words, flow)) = table.lingering.as_mut().zip(entry.lingering) {
            words.flows.end(flow);
        }
        if let Some(records) = &table.records {
            entry.tell(records, self.ending);
        }
    }
}

fn now() -> u64 {
    Clock::read().map_or(0, |clock| clock.now())
}
