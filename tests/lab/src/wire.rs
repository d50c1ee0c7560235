//! A wire between two namespaces that delays, loses, reorders and slows what it carries.

mod direction;
mod relay;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Result;

use self::relay::{Port, relay};
use crate::{command::run, link::veth, namespace::Namespace};

/// The wire's ends in its own namespace.
const ENDS: [&str; 2] = ["left", "right"];

/// What one direction of a wire does to frames. The default carries them at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Time on the way.
    pub delay: Duration,
    /// Part of the frames that is lost, 0 to 1.
    pub loss: f64,
    /// Part of the frames that is late by [`Self::late`], so that others overtake them, 0 to 1.
    pub reorder: f64,
    /// By how much such a frame is late.
    pub late: Duration,
    /// Bits per second; none for as fast as it goes.
    pub rate: Option<u64>,
    /// Bytes that may wait for their turn where there is a rate; what comes beyond them is lost. 0 for as
    /// many as pass in 50 ms.
    pub queue: u64,
}

impl Impairment {
    /// Only takes time.
    pub fn delay(milliseconds: u64) -> Self {
        Self { delay: Duration::from_millis(milliseconds), ..Self::default() }
    }
}

/// A way along a wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the first end to the second.
    LeftToRight,
    /// From the second end to the first.
    RightToLeft,
}

impl Way {
    const BOTH: [Self; 2] = [Self::LeftToRight, Self::RightToLeft];
}

/// Frames that entered one direction of a wire since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Carried {
    /// Came out at the other end.
    pub delivered: u64,
    /// Lost by chance, or because the wire was cut.
    pub lost: u64,
    /// Lost because too much was waiting.
    pub overflowed: u64,
}

/// What a relay and its owner share.
#[derive(Debug, Default)]
struct Shared {
    impairment: Impairment,
    cut: bool,
    carried: Carried,
}

/// A cable between two namespaces, with a relay in its middle that a test controls while it runs.
///
/// Both ends are Ethernet interfaces with an MTU of 1,500 and without offloads: each frame on the wire is one
/// segment, so that a lost frame is what it is on a real wire. Dropped, it is gone with both interfaces.
#[derive(Debug)]
pub struct Wire {
    directions: [Arc<Mutex<Shared>>; 2],
    stop: Arc<AtomicBool>,
    relays: Vec<JoinHandle<()>>,
    _namespace: Namespace,
}

impl Wire {
    /// Connects two namespaces. The same seed loses the same frames of the same traffic.
    ///
    /// # Errors
    /// An interface of that name exists already, or a tool is missing.
    pub fn new(left: (&Namespace, &str), right: (&Namespace, &str), seed: u64) -> Result<Self> {
        let namespace = Namespace::new("wire")?;
        namespace.set("net/ipv6/conf/all/disable_ipv6", "1")?;
        namespace.set("net/ipv6/conf/default/disable_ipv6", "1")?;
        for (end, (own, name)) in ENDS.into_iter().zip([left, right]) {
            veth((&namespace, end), (own, name))?;
            let mut ethtool = own.command("ethtool");
            ethtool.args(["-K", name, "tx", "off", "sg", "off", "tso", "off", "gso", "off"]);
            run(&mut ethtool)?;
        }
        let ports = namespace
            .enter(|| -> Result<_> { Ok([Port::open(ENDS[0])?, Port::open(ENDS[1])?]) })??;
        let mut wire = Self {
            directions: <[Arc<Mutex<Shared>>; 2]>::default(),
            stop: Arc::default(),
            relays: Vec::new(),
            _namespace: namespace,
        };
        for (number, way) in Way::BOTH.into_iter().enumerate() {
            let (from, to) = (ports[number].again()?, ports[1 - number].again()?);
            let (shared, stop) = (Arc::clone(wire.direction(way)), Arc::clone(&wire.stop));
            let seed = seed.wrapping_mul(2).wrapping_add(number as u64);
            wire.relays.push(std::thread::spawn(move || relay(from, to, &shared, &stop, seed)));
        }
        Ok(wire)
    }

    /// Changes what one direction does; frames already under way keep their time.
    pub fn impair(&self, way: Way, impairment: Impairment) {
        self.lock(way).impairment = impairment;
    }

    /// Changes what both directions do.
    pub fn impair_both(&self, impairment: Impairment) {
        Way::BOTH.into_iter().for_each(|way| self.impair(way, impairment));
    }

    /// Loses everything that is under way or comes, in one direction. Both interfaces stay up.
    pub fn cut(&self, way: Way) {
        self.lock(way).cut = true;
    }

    /// Loses everything, in both directions.
    pub fn cut_both(&self) {
        Way::BOTH.into_iter().for_each(|way| self.cut(way));
    }

    /// Carries again, in both directions.
    pub fn heal(&self) {
        Way::BOTH.into_iter().for_each(|way| self.lock(way).cut = false);
    }

    /// What one direction has done so far.
    pub fn carried(&self, way: Way) -> Carried {
        self.lock(way).carried
    }

    fn direction(&self, way: Way) -> &Arc<Mutex<Shared>> {
        let [left_to_right, right_to_left] = &self.directions;
        match way {
            Way::LeftToRight => left_to_right,
            Way::RightToLeft => right_to_left,
        }
    }

    fn lock(&self, way: Way) -> MutexGuard<'_, Shared> {
        self.direction(way).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for relay in self.relays.drain(..) {
            relay.join().ok();
        }
    }
}
