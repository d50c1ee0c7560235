//! The server behind gateway B. The first byte of a connection says what it is for.

use std::{
    io::Read as _,
    net::{TcpListener as StdListener, TcpStream as StdStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use super::topology::{PORT, Topology, address};

/// All bytes that follow are counted and forgotten.
pub(super) const SINK: u8 = b's';
/// Every byte is sent back.
pub(super) const ECHO: u8 = b'e';
/// One byte is the answer, and the connection ends.
pub(super) const ONCE: u8 = b'o';

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1_024;

/// What each sink has received, in bytes.
type Sinks = Arc<Mutex<Vec<Arc<AtomicU64>>>>;

/// A server in its namespace until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    sinks: Sinks,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(topology: &Topology) -> Result<Self> {
        let listener = topology.server.enter(|| StdListener::bind((address::SERVER, PORT)))??;
        listener.set_nonblocking(true)?;
        let sinks = Sinks::default();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let own_sinks = Arc::clone(&sinks);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    _ = serve(listener, own_sinks) => {}
                }
            });
        });
        Ok(Self { sinks, stop: Some(stop), thread: Some(thread) })
    }

    /// Bytes that each sink has received since [`Self::forget`].
    pub(super) fn received(&self) -> Vec<u64> {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.iter().map(|sink| sink.load(Ordering::Relaxed)).collect()
    }

    /// Counts only sinks that come from now on.
    pub(super) fn forget(&self) {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn serve(listener: StdListener, sinks: Sinks) -> Result<()> {
    let listener = TcpListener::from_std(listener).context("listen")?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let sinks = Arc::clone(&sinks);
        tokio::spawn(async move {
            // A client that leaves is no fault of the server's.
            drop(answer(stream, sinks).await);
        });
    }
}

async fn answer(mut stream: TcpStream, sinks: Sinks) -> Result<()> {
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    match byte[0] {
        SINK => {
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            let received = Arc::new(AtomicU64::new(0));
            sinks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&received));
            std::thread::spawn(move || sink(stream, &received));
        }
        ECHO => loop {
            stream.read_exact(&mut byte).await?;
            stream.write_all(&byte).await?;
        },
        _ => stream.write_all(&byte).await?,
    }
    Ok(())
}

fn sink(mut stream: StdStream, received: &AtomicU64) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        received.fetch_add(length as u64, Ordering::Relaxed);
    }
}
