//! Threads of their own for what carries traffic: rules that are compiled, files that are written and answers to
//! operators hold up no packet there.
//!
//! Each thread is a lane: what belongs to one connection is read, sealed and written on one of them, and no thread
//! wakes another for a packet. Circuits prefer connections of links on their own lane.

use std::{
    cell::Cell,
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use nightgate_fabric::Lane;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

thread_local! {
    static HERE: Cell<Lane> = const { Cell::new(Lane(0)) };
}

/// Threads on which connections are read and written. Dropping it ends what runs there.
#[derive(Debug)]
pub struct Traffic {
    lanes: Lanes,
    _threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    stop: Option<oneshot::Sender<()>>,
    handle: Option<JoinHandle<()>>,
}

/// The lanes of a process. Clones are of the same.
#[derive(Clone, Debug)]
pub struct Lanes(Arc<[Runtime]>);

#[derive(Debug)]
struct Runtime {
    handle: Handle,
    /// Connections that are there now.
    load: AtomicUsize,
}

/// Counts a connection on its lane, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    lanes: Lanes,
    lane: Lane,
}

impl Traffic {
    /// Starts so many threads; without a number, one for each CPU.
    ///
    /// # Errors
    /// The system refuses threads or files.
    pub fn start(threads: Option<NonZeroUsize>) -> io::Result<Self> {
        let count = threads.unwrap_or_else(one_for_each_cpu).get();
        let started: Vec<_> = (0..count).map(Lane).map(Thread::start).collect::<Result<_, _>>()?;
        let (threads, handles): (Vec<_>, Vec<_>) = started.into_iter().unzip();
        Ok(Self { lanes: Lanes::new(handles), _threads: threads })
    }

    /// What connections are given to.
    pub fn lanes(&self) -> Lanes {
        self.lanes.clone()
    }
}

impl Thread {
    fn start(lane: Lane) -> io::Result<(Self, Handle)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let name = format!("traffic-{}", lane.0);
        let thread = thread::Builder::new().name(name).spawn(move || {
            HERE.set(lane);
            // Nothing is ever sent: the channel closes.
            runtime.block_on(stopped).ok();
        })?;
        Ok((Self { stop: Some(stop), handle: Some(thread) }, handle))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.handle.take() {
            // It has panicked only if a destructor of a task has.
            thread.join().ok();
        }
    }
}

impl Lanes {
    fn new(handles: impl IntoIterator<Item = Handle>) -> Self {
        let lane = |handle| Runtime { handle, load: AtomicUsize::new(0) };
        Self(handles.into_iter().map(lane).collect())
    }

    /// One lane: the tokio runtime that is current.
    pub fn here() -> Self {
        Self::new([Handle::current()])
    }

    /// The runtime of the first lane.
    pub fn first(&self) -> &Handle {
        &self.0[0].handle
    }

    /// The runtime of a lane; of another process's lanes, that of any.
    pub fn runtime(&self, lane: Lane) -> &Handle {
        &self.0[lane.0 % self.0.len()].handle
    }

    /// The lanes, as often as asked for.
    pub(crate) fn in_turn(&self, number: usize) -> Lane {
        Lane(number % self.0.len())
    }

    /// A lane with the fewest connections.
    pub fn seat(&self) -> Seat {
        let loads = self.0.iter().map(|runtime| runtime.load.load(Ordering::Relaxed));
        let (lane, _) = loads.enumerate().min_by_key(|(_, load)| *load).unwrap_or_default();
        self.0[lane].load.fetch_add(1, Ordering::Relaxed);
        Seat { lanes: self.clone(), lane: Lane(lane) }
    }
}

impl Seat {
    /// Where the connection is to be carried.
    pub fn runtime(&self) -> &Handle {
        self.lanes.runtime(self.lane)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lanes.0[self.lane.0].load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The lane of this thread; the first, if it is none.
pub(crate) fn here() -> Lane {
    HERE.get()
}

fn one_for_each_cpu() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn what_runs_on_a_lane_and_what_it_starts_stays_there() {
        let traffic = Traffic::start(NonZeroUsize::new(3)).unwrap();
        assert_eq!(here(), Lane(0));
        for lane in [0, 1, 2].map(Lane) {
            let lanes = traffic.lanes();
            let inner = lanes
                .runtime(lane)
                .spawn(async { tokio::spawn(async { here() }).await.unwrap() })
                .await;
            assert_eq!(inner.unwrap(), lane);
        }
        assert_eq!([4, 5].map(|number| traffic.lanes().in_turn(number)), [1, 2].map(Lane));
    }

    #[tokio::test]
    async fn connections_share_the_lanes_evenly_as_they_come_and_go() {
        let traffic = Traffic::start(NonZeroUsize::new(2)).unwrap();
        let lanes = traffic.lanes();
        let mut seats: Vec<_> = (0..5).map(|_| lanes.seat()).collect();
        assert_eq!(seats.iter().filter(|seat| seat.lane == Lane(0)).count(), 3);
        seats.retain(|seat| seat.lane == Lane(1));
        assert_eq!([lanes.seat(), lanes.seat()].map(|seat| seat.lane), [Lane(0); 2]);
        drop(seats);
    }

    #[tokio::test]
    async fn what_still_runs_ends_with_it() {
        for threads in [1, 3] {
            let traffic = Traffic::start(NonZeroUsize::new(threads)).unwrap();
            let held = Arc::new(Mutex::new(()));
            let own = Arc::clone(&held);
            let lanes = traffic.lanes();
            lanes.runtime(Lane(threads - 1)).spawn(async move {
                std::future::pending::<()>().await;
                drop(own);
            });
            drop(traffic);
            assert_eq!(Arc::strong_count(&held), 1, "{threads}");
        }
    }
}
