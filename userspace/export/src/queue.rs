//! The way of records to one output: a bounded queue, and a task that delivers what is in it.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nightgate_telemetry::{Metrics, RecordFate};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    file::FileSink,
    http::HttpSink,
    record::{Line, Waiting},
    syslog::SyslogSink,
};

/// Records that wait for an output; of 1 KiB each, 16 MiB.
pub(crate) const WAITING: usize = 16_384;

/// Records that are delivered at once.
const BATCH: usize = 256;

/// Tries to deliver a batch, before it is lost.
const TRIES: u32 = 5;

/// Time before the second try; it doubles with each.
const PAUSE: Duration = Duration::from_millis(500);

/// What delivers.
#[derive(Debug)]
pub(crate) enum Sink {
    File(FileSink),
    Syslog(SyslogSink),
    Http(HttpSink),
}

/// One output.
#[derive(Debug)]
pub(crate) struct Queue {
    name: &'static str,
    records: mpsc::Sender<Arc<Waiting>>,
    unreported: Arc<AtomicU64>,
    orders: Arc<Orders>,
    metrics: Metrics,
    task: JoinHandle<()>,
}

/// What a delivery is told while it works.
#[derive(Debug, Default)]
struct Orders {
    /// What is to deliver from the next try on.
    sink: Mutex<Option<Sink>>,
    /// The process ends: nothing is tried for long.
    is_ending: AtomicBool,
}

/// The other end of it.
struct Delivery {
    name: &'static str,
    sink: Sink,
    records: mpsc::Receiver<Arc<Waiting>>,
    /// Records that are lost, and that no delivered one has told of.
    unreported: Arc<AtomicU64>,
    orders: Arc<Orders>,
    metrics: Metrics,
    /// Whether the last batch was lost, so that it is logged once.
    is_failing: bool,
}

impl Queue {
    pub(crate) fn start(name: &'static str, sink: Sink, metrics: &Metrics) -> Self {
        let (sender, records) = mpsc::channel(WAITING);
        let unreported = Arc::new(AtomicU64::new(0));
        let orders = Arc::new(Orders::default());
        let delivery = Delivery {
            name,
            sink,
            records,
            unreported: Arc::clone(&unreported),
            orders: Arc::clone(&orders),
            metrics: metrics.clone(),
            is_failing: false,
        };
        let task = tokio::spawn(delivery.run());
        Self { name, records: sender, unreported, orders, metrics: metrics.clone(), task }
    }

    /// Puts a record in the queue; it is lost if there is no room.
    pub(crate) fn submit(&self, record: &Arc<Waiting>) {
        if self.records.try_send(Arc::clone(record)).is_err() {
            self.unreported.fetch_add(1, Ordering::Relaxed);
            self.metrics.flow_records(self.name, RecordFate::Lost, 1);
        }
    }

    /// Which output it is.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Delivers by another sink from now on, also what waits.
    pub(crate) fn replace(&self, sink: Sink) {
        *self.orders.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    /// Takes no more records, and delivers those that wait as long as it takes.
    pub(crate) fn retire(self) -> Retired {
        let Self { name, orders, task, .. } = self;
        Retired { name, orders, task }
    }
}

/// An output that gets no more records.
#[derive(Debug)]
pub(crate) struct Retired {
    name: &'static str,
    orders: Arc<Orders>,
    task: JoinHandle<()>,
}

impl Retired {
    /// Whether it has delivered everything.
    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it when it has tried to deliver what waits, or after a time, with what waits lost.
    pub(crate) async fn close(mut self, limit: Duration) {
        self.orders.is_ending.store(true, Ordering::Relaxed);
        match timeout(limit, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(output = self.name, %error, "records that waited are lost"),
            Err(_elapsed) => {
                warn!(output = self.name, "records that waited are lost");
                self.task.abort();
            }
        }
    }
}

impl Delivery {
    async fn run(mut self) {
        let mut batch = Vec::new();
        while self.records.recv_many(&mut batch, BATCH).await > 0 {
            self.deliver(&batch).await;
            batch.clear();
        }
    }

    /// Delivers a batch, or loses it after several tries.
    async fn deliver(&mut self, batch: &[Arc<Waiting>]) {
        let mut pause = PAUSE;
        let mut result = Ok(());
        for attempt in 0..TRIES {
            if attempt > 0 {
                sleep(pause).await;
                pause *= 2;
            }
            result = self.attempt(batch).await;
            if result.is_ok() {
                break;
            }
            // Nobody waits for long for the end of the process.
            if self.orders.is_ending.load(Ordering::Relaxed) {
                break;
            }
        }
        self.settle(batch.len() as u64, &result);
    }

    async fn attempt(&mut self, batch: &[Arc<Waiting>]) -> io::Result<()> {
        if let Some(sink) = self.orders.sink.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.sink = sink;
        }
        let lost = self.unreported.swap(0, Ordering::Relaxed);
        let lost_before = |number| if number == 0 { lost } else { 0 };
        let lines = (0_u32..).zip(batch).map(|(number, it)| it.line(lost_before(number)));
        let lines: Vec<Line<'_>> = lines.collect();
        let result = match &mut self.sink {
            Sink::File(file) => file.deliver(&lines).await,
            Sink::Syslog(server) => server.deliver(&lines).await,
            Sink::Http(collector) => collector.deliver(&lines).await,
        };
        if result.is_err() {
            self.unreported.fetch_add(lost, Ordering::Relaxed);
        }
        result
    }

    fn settle(&mut self, records: u64, result: &io::Result<()>) {
        let output = self.name;
        match result {
            Ok(()) => {
                self.metrics.flow_records(output, RecordFate::Delivered, records);
                if std::mem::take(&mut self.is_failing) {
                    info!(output, "flow records are delivered again");
                }
            }
            Err(error) => {
                self.unreported.fetch_add(records, Ordering::Relaxed);
                self.metrics.flow_records(output, RecordFate::Lost, records);
                if !std::mem::replace(&mut self.is_failing, true) {
                    error!(output, %error, "flow records cannot be delivered; they are counted as lost");
                }
            }
        }
    }
}
