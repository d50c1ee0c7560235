//! The relay in the middle of a wire: frames from one interface to another.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        socket::{
            AddressFamily, SockFlag, SockProtocol, SockType, bind, setsockopt, socket, sockopt,
        },
        time::TimeSpec,
    },
};

use super::{
    Carried, Impairment, Shared,
    direction::{Direction, Fate},
};

/// Longest frame in bytes: an MTU of 1,500, the header, and a VLAN's tag.
const FRAME: usize = 1_518;
/// Frames taken at once.
const BATCH: usize = 64;
/// Bytes under way at most: 1 Gbit/s for half a second.
const HELD: usize = 64 << 20;
/// What the kernel may keep for the relay until it is scheduled, in bytes of its own counting.
const RECEIVE_BUFFER: usize = 64 << 20;
/// How long the relay sleeps at most, to see that its owner wants it to stop.
const NAP: Duration = Duration::from_millis(20);
/// How long it lets frames gather where they are to be late by much more than that.
const GATHER: Duration = Duration::from_micros(100);

/// A packet socket, packet(7), that sends and receives whole frames of one interface.
#[derive(Debug)]
pub(super) struct Port(File);

impl Port {
    /// Opens an interface of the calling thread's namespace.
    pub(super) fn open(interface: &str) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
            .context("open a packet socket")?;
        let address = getifaddrs()?
            .filter(|entry| entry.interface_name == interface)
            .find_map(|entry| entry.address?.as_link_addr().copied())
            .with_context(|| format!("no interface {interface}"))?;
        bind(socket.as_raw_fd(), &address).with_context(|| format!("bind to {interface}"))?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        Ok(Self(File::from(socket)))
    }

    /// The same socket once more.
    pub(super) fn again(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Waits until there is a frame, or until the time is over.
    fn wait(&self, time: Duration) {
        let mut sockets = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        // Interrupted or not, the caller looks for itself.
        ppoll(&mut sockets, Some(TimeSpec::from_duration(time)), None).ok();
    }
}

/// A frame on its way: when it comes out, and its number, which keeps the order of what comes out together.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Held(Instant, u64, Vec<u8>);

/// One direction of a wire at work.
struct Relay<'a> {
    from: Port,
    to: Port,
    shared: &'a Mutex<Shared>,
    direction: Direction,
    held: BinaryHeap<Reverse<Held>>,
    held_bytes: usize,
    /// Buffers for frames to come.
    spare: Vec<Vec<u8>>,
    number: u64,
}

/// Relays until told to stop.
pub(super) fn relay(from: Port, to: Port, shared: &Mutex<Shared>, stop: &AtomicBool, seed: u64) {
    let direction = Direction::new(seed);
    let held = BinaryHeap::new();
    let mut relay =
        Relay { from, to, shared, direction, held, held_bytes: 0, spare: Vec::new(), number: 0 };
    while !stop.load(Ordering::Relaxed) {
        let impairment = relay.turn();
        let due = relay.held.peek().map(|Reverse(Held(due, ..))| *due);
        let wait = due.map_or(NAP, |due| due.saturating_duration_since(Instant::now()).min(NAP));
        if impairment.delay > GATHER * 10 {
            std::thread::sleep(wait.min(GATHER));
        }
        relay.from.wait(wait.saturating_sub(GATHER));
    }
}

impl Relay<'_> {
    /// Takes what has come and gives what is due; gives the impairment that was in force.
    fn turn(&mut self) -> Impairment {
        let (impairment, cut) = {
            let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            (shared.impairment, shared.cut)
        };
        let mut counted = Carried::default();
        let now = Instant::now();
        if cut {
            counted.lost += self.held.len() as u64;
            self.held.clear();
            self.held_bytes = 0;
        }
        for _ in 0..BATCH {
            let mut frame = self.spare.pop().unwrap_or_default();
            frame.resize(FRAME, 0);
            let Ok(length) = self.from.0.read(&mut frame) else {
                self.spare.push(frame);
                break;
            };
            frame.truncate(length);
            match self.direction.admit(length, &impairment, now) {
                Fate::Due(_) if cut => counted.lost += 1,
                Fate::Due(due) if self.held_bytes + length <= HELD => {
                    self.number += 1;
                    self.held_bytes += length;
                    self.held.push(Reverse(Held(due, self.number, frame)));
                    continue;
                }
                Fate::Due(_) | Fate::Overflowed => counted.overflowed += 1,
                Fate::Lost => counted.lost += 1,
            }
            self.spare.push(frame);
        }
        counted.delivered = self.deliver();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.carried.delivered += counted.delivered;
        shared.carried.lost += counted.lost;
        shared.carried.overflowed += counted.overflowed;
        impairment
    }

    /// Sends what is due; gives how many frames.
    fn deliver(&mut self) -> u64 {
        let now = Instant::now();
        let mut delivered = 0;
        while let Some(Reverse(Held(due, ..))) = self.held.peek()
            && *due <= now
            && let Some(Reverse(Held(_, _, frame))) = self.held.pop()
        {
            self.held_bytes -= frame.len();
            // A frame that the interface does not take is lost, as on a wire.
            delivered += u64::from(send(&mut self.to.0, &frame));
            self.spare.push(frame);
        }
        delivered
    }
}

fn send(to: &mut File, frame: &[u8]) -> bool {
    loop {
        match to.write(frame) {
            Ok(_) => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_refused) => return false,
        }
    }
}
