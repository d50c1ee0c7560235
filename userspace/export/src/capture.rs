//! Frames of an interface, written to capture files with what is known about each.

use std::{
    collections::VecDeque,
    fmt, io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nightgate_config::PacketFiles;
use nightgate_telemetry::{Metrics, RecordFate, RotatingFile};
use nix::{
    cmsg_space,
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::{
        socket::{
            AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol,
            SockType, bind, recvmsg, setsockopt, socket, sockopt,
        },
        time::{TimeSpec, TimeVal},
    },
};
use tracing::{error, info};

use crate::{
    pcapng::{Packet, head, packet},
    readers::Readers,
};

/// Longest frame, bytes: the largest MTU of an interface, an Ethernet header and a tag.
const FRAME: usize = 65_535 + 18;
/// Bytes that the kernel keeps for us until we read, by its own counting.
const RECEIVE_BUFFER: usize = 32 << 20;
/// Bytes that are written at once.
const CHUNK: usize = 256 << 10;
/// How long frames are held before they are described: a connection's first ones come before its circuit stands.
const HOLD: Duration = Duration::from_secs(1);
/// Bytes of frames that are held at most; older ones are described earlier.
const HELD: usize = 32 << 20;
/// How long to wait for a frame, before what there is is written, microseconds.
const NAP: i64 = 100_000;
/// What there is is written after this time, even while frames come.
const EVERY: Duration = Duration::from_millis(200);

/// Says what is known about a frame; an empty text if it is nothing.
pub type Describe = Box<dyn Fn(&[u8]) -> String + Send>;

/// A capture that cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("packets: {operation} {interface}: {source}; expected {expected}")]
pub struct CaptureError {
    operation: &'static str,
    interface: String,
    source: io::Error,
    expected: &'static str,
}

/// Writes the frames of an interface, on a thread of its own, until it is dropped.
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's part.
struct Writer {
    socket: OwnedFd,
    /// Of the interface.
    index: usize,
    file: RotatingFile,
    /// Those who read along, if anybody may.
    readers: Option<Readers>,
    describe: Describe,
    metrics: Metrics,
    stop: Arc<AtomicBool>,
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Blocks that are to be written, and how many.
    chunk: Vec<u8>,
    frames: u64,
    /// Frames that the kernel has lost, since the socket is open; it counts in 32 bits.
    dropped: u32,
    /// Frames lost that no packet has told of.
    unreported: u64,
    is_failing: bool,
    written: Instant,
}

/// A frame that is held.
struct Held {
    since: Instant,
    time: u64,
    frame: Box<[u8]>,
    length: usize,
    /// Frames that the kernel lost before it.
    lost: u64,
}

/// What one read gives.
struct Received {
    length: usize,
    time: u64,
    dropped: Option<u32>,
}

impl Capture {
    /// Begins to write what comes in and leaves by an interface of this thread's network namespace.
    ///
    /// # Errors
    /// There is no such interface, or the process may not see its frames.
    pub fn start(
        config: &PacketFiles,
        describe: Describe,
        metrics: &Metrics,
    ) -> Result<Self, CaptureError> {
        let interface = config.interface.as_str();
        let (socket, index) = open(interface)?;
        let file = RotatingFile::new(config.path.clone(), config.files, config.size);
        let readers = config.listen.map(|address| Readers::open(address, head(interface)));
        let expected = "a free port of an address of this host beside it";
        let readers = readers.transpose().map_err(failed("serve", interface, expected))?;
        let stop = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            socket,
            index,
            file: file.with_head(head(interface)),
            readers,
            describe,
            metrics: metrics.clone(),
            stop: Arc::clone(&stop),
            held: VecDeque::new(),
            held_bytes: 0,
            chunk: Vec::new(),
            frames: 0,
            dropped: 0,
            unreported: 0,
            is_failing: false,
            written: Instant::now(),
        };
        let thread = thread::Builder::new().name("capture".into()).spawn(move || writer.run());
        let expected = "room for one more thread";
        let thread = thread.map_err(failed("capture from", interface, expected))?;
        info!(interface, path = %config.path.display(), "frames are written to capture files");
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("what was captured last is lost");
        }
    }
}

impl Writer {
    fn run(mut self) {
        let mut buffer = vec![0; FRAME];
        while !self.stop.load(Ordering::Relaxed) {
            match receive(&self.socket, self.index, &mut buffer) {
                Ok(received) => {
                    self.hold(&buffer, &received);
                    self.release(HOLD, HELD);
                    if self.written.elapsed() >= EVERY {
                        self.write();
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {
                    self.release(HOLD, HELD);
                    self.write();
                }
                Err(error) => {
                    error!(%error, "no more frames can be captured; the interface may be gone");
                    break;
                }
            }
        }
        self.release(Duration::ZERO, 0);
        self.write();
    }

    fn hold(&mut self, buffer: &[u8], received: &Received) {
        let mut lost = 0;
        if let Some(dropped) = received.dropped {
            lost = u64::from(dropped.wrapping_sub(self.dropped));
            self.dropped = dropped;
        }
        let frame: Box<[u8]> = buffer[..received.length.min(buffer.len())].into();
        self.held_bytes += frame.len();
        let (since, time, length) = (Instant::now(), received.time, received.length);
        self.held.push_back(Held { since, time, frame, length, lost });
    }

    /// Describes the frames that have been held for so long, or that are too many bytes.
    fn release(&mut self, time: Duration, bytes: usize) {
        while let Some(held) = self.held.front()
            && (held.since.elapsed() >= time || self.held_bytes > bytes)
            && let Some(held) = self.held.pop_front()
        {
            self.held_bytes -= held.frame.len();
            self.lose(held.lost);
            let comment = (self.describe)(&held.frame);
            let frame = Packet {
                time: held.time,
                frame: &held.frame,
                length: held.length,
                dropped: std::mem::take(&mut self.unreported),
                comment: &comment,
            };
            if let Some(readers) = &mut self.readers {
                readers.add(&frame);
            }
            self.chunk.extend(packet(&frame));
            self.frames += 1;
            if self.chunk.len() >= CHUNK {
                self.write();
            }
        }
    }

    fn lose(&mut self, frames: u64) {
        self.unreported += frames;
        if frames > 0 {
            self.metrics.captured_frames(RecordFate::Lost, frames);
        }
    }

    fn write(&mut self) {
        self.written = Instant::now();
        if let Some(readers) = &mut self.readers {
            readers.serve();
        }
        if self.chunk.is_empty() {
            return;
        }
        let frames = std::mem::take(&mut self.frames);
        match self.file.append(&self.chunk) {
            Ok(()) => {
                self.metrics.captured_frames(RecordFate::Delivered, frames);
                self.is_failing = false;
            }
            Err(error) => {
                self.lose(frames);
                if !std::mem::replace(&mut self.is_failing, true) {
                    error!(%error, "captured frames cannot be written; they are counted as lost");
                }
            }
        }
        self.chunk.clear();
    }
}

/// Opens a packet socket, packet(7), for all frames of an interface, whose index it gives as well.
fn open(interface: &str) -> Result<(OwnedFd, usize), CaptureError> {
    let rights = "to run as root or with CAP_NET_RAW";
    let opened =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
    let socket = opened.map_err(failed("capture from", interface, rights))?;
    let mut addresses = getifaddrs().map_err(failed("look for", interface, "a list of them"))?;
    let address = addresses.find_map(|entry| {
        let address = entry.address.filter(|_| entry.interface_name == interface)?;
        address.as_link_addr().copied()
    });
    let missing = failed("capture from", interface, "an interface that is there at the start");
    let address = address.ok_or(Errno::ENODEV).map_err(missing)?;
    let configured = bind(socket.as_raw_fd(), &address)
        .and_then(|()| setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER))
        .and_then(|()| setsockopt(&socket, sockopt::ReceiveTimestampns, &true))
        .and_then(|()| setsockopt(&socket, sockopt::RxqOvfl, &1))
        .and_then(|()| setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, NAP)));
    configured.map_err(failed("capture from", interface, rights))?;
    Ok((socket, address.ifindex()))
}

/// Waits a while for a frame of the interface. Until the socket was bound, it has heard all others too: the frames of those are
/// nothing.
fn receive(socket: &OwnedFd, index: usize, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut control = cmsg_space!(TimeSpec, u32);
    let mut parts = [io::IoSliceMut::new(buffer)];
    // Gives the whole length of a frame that does not fit.
    let flags = MsgFlags::MSG_TRUNC;
    let message = recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    if message.address.is_none_or(|from| from.ifindex() != index) {
        return Err(Errno::EAGAIN);
    }
    let mut received = Received { length: message.bytes, time: 0, dropped: None };
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmTimestampns(time) = part {
            let [seconds, rest] =
                [time.tv_sec(), time.tv_nsec()].map(|part| u64::try_from(part).unwrap_or_default());
            received.time = seconds * 1_000_000_000 + rest;
        } else if let ControlMessageOwned::RxqOvfl(dropped) = part {
            received.dropped = Some(dropped);
        }
    }
    Ok(received)
}

fn failed<E: Into<io::Error>>(
    operation: &'static str,
    interface: &str,
    expected: &'static str,
) -> impl FnOnce(E) -> CaptureError {
    let interface = interface.to_owned();
    move |source| CaptureError { operation, interface, source: source.into(), expected }
}
