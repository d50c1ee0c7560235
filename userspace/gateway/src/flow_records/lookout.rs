//! Looks at the flow tables again and again, on a thread of its own: a full table takes a while.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nightgate_datapath::FlowTables;
use nightgate_mirror::flow::{Told, Tracker};
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::clock::Clock;

/// Time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Flows handed on at a time: describing them keeps others waiting for a few milliseconds.
const BATCH: usize = 256;

/// Up to when ended flows have been told: nanoseconds since boot (`CLOCK_MONOTONIC`), in a file that is gone after a
/// boot as the flows are. The next process goes on from there.
#[derive(Clone, Debug)]
pub(super) struct Mark(PathBuf);

impl Mark {
    /// The one of the gateway with this admin socket.
    pub(super) fn beside(admin_socket: &Path) -> Self {
        Self(admin_socket.with_extension("flows"))
    }

    fn read(&self) -> Option<u64> {
        std::fs::read_to_string(&self.0).ok()?.trim().parse().ok()
    }

    /// Opens it to be written.
    fn open(&self) -> io::Result<File> {
        File::options().create(true).truncate(false).write(true).open(&self.0)
    }
}

/// Nanoseconds after which flows that go on are told of, 0 for never; it may change while somebody looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Interim(Arc<AtomicU64>);

impl Interim {
    pub(super) fn set(&self, interim: Option<Duration>) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(interim.map_or(0, nanoseconds), Ordering::Relaxed);
    }

    fn read(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|time| *time != 0)
    }
}

/// Begins to look, until nobody listens any more.
pub(super) fn start(
    tables: FlowTables,
    interim: Interim,
    mark: Mark,
    told: mpsc::Sender<Vec<Told>>,
) {
    let work = move || {
        if let Err(error) = look_out(&tables, &interim, &mark, &told) {
            error!(%error, "flows cannot be looked at; none are told of");
        }
    };
    if let Err(error) = thread::Builder::new().name("flows".into()).spawn(work) {
        error!(%error, "flows cannot be looked at; none are told of");
    }
}

fn look_out(
    tables: &FlowTables,
    interim: &Interim,
    mark: &Mark,
    told: &mpsc::Sender<Vec<Told>>,
) -> io::Result<()> {
    let now = Clock::read()?.now();
    let before = mark.read().filter(|before| *before <= now).unwrap_or(now);
    let file = mark.open().inspect_err(
        |error| warn!(%error, path = %mark.0.display(), "a restart will miss ended flows"),
    );
    let file = file.ok();
    let mut tracker = Tracker::new(before, interim.read());
    while !told.is_closed() {
        let now = Clock::read()?.now();
        tracker.set_interim(interim.read());
        match look(tables, &mut tracker, now) {
            Ok(found) => {
                for batch in found.chunks(BATCH) {
                    if told.blocking_send(batch.to_vec()).is_err() {
                        return Ok(());
                    }
                }
                if let Some(file) = &file {
                    file.write_all_at(format!("{now:020}\n").as_bytes(), 0)?;
                }
            }
            Err(error) => warn!(%error, "flows could not be looked at; the next look tries again"),
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// The flows to tell of that one look finds.
fn look(
    tables: &FlowTables,
    tracker: &mut Tracker,
    now: u64,
) -> Result<Vec<Told>, nightgate_datapath::DatapathError> {
    let mut found = Vec::new();
    tracker.begin(now);
    tables.each(|key, flow| tracker.observe(key, flow, &mut |told| found.push(told)))?;
    tracker.finish(|told| found.push(told));
    Ok(found)
}
