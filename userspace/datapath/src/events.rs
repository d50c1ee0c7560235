//! What the programs tell of single packets.
#![expect(unsafe_code, reason = "records are bytes in a ring that is shared with the kernel")]

use std::{fmt, net::SocketAddr, os::fd::AsRawFd as _};

use aya::maps::{Map, MapData, RingBuf};
use nightgate_abi::{
    Features, Hook, Reason, ZoneId,
    event::{Event, Trace},
    maps,
};
use nightgate_ruleset::{RuleId, ZoneName};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    interface::IfIndex,
    map::{self, failed},
};

/// A ring of records about packets. Nobody is woken when there is one.
pub struct Events(RingBuf<MapData>);

/// A packet, and what became of it, with names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PacketEvent {
    /// Nanoseconds since boot (`CLOCK_MONOTONIC`).
    pub at: u64,
    /// What became of it.
    pub reason: Reason,
    /// Rule that decided; `None` if none did, or one of rules that are no longer in force.
    pub rule: Option<RuleId>,
    /// Zone the flow comes from, if it was judged by the rules in force.
    pub from: Option<ZoneName>,
    /// Zone the flow goes to, likewise.
    pub to: Option<ZoneName>,
    /// Interface.
    pub interface: String,
    /// Its side.
    pub hook: Hook,
    /// What it is beyond its link layer; `None` if it is no well-formed IP packet.
    pub ip: Option<PacketEnds>,
    /// EtherType.
    pub ether_type: u16,
    /// Link-layer source.
    pub source_mac: [u8; 6],
    /// Link-layer destination.
    pub destination_mac: [u8; 6],
    /// Bytes, link layer included.
    pub length: u32,
    /// Log records of the rule that were left out before this one.
    pub suppressed: u64,
}

/// Ends of an IP packet, before any translation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PacketEnds {
    /// IP protocol number.
    pub protocol: u8,
    /// Source; the port is 0 if the protocol has none, and the identifier of an ICMP echo.
    pub source: SocketAddr,
    /// Destination, likewise.
    pub destination: SocketAddr,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
}

impl Events {
    /// The next record; `None` if there is none yet.
    pub fn read(&mut self) -> Option<Event> {
        loop {
            let item = self.0.next()?;
            // Records of another length are none of ours.
            if item.len() == size_of::<Event>() {
                // SAFETY: the programs have written an `Event` (integers only) of this length; it may be unaligned
                // as far as the type of the slice says.
                return Some(unsafe { item.as_ptr().cast::<Event>().read_unaligned() });
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Events").field(&self.0.as_raw_fd()).finish()
    }
}

impl Datapath {
    /// The log that rules with `log` write. There should be one reader.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn log(&self) -> Result<Events, DatapathError> {
        self.ring(maps::LOG)
    }

    /// The packets that are traced. There should be one reader.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn traces(&self) -> Result<Events, DatapathError> {
        self.ring(maps::TRACES)
    }

    /// Traces packets until [`Datapath::stop_trace`], but not beyond the trace's deadline, whatever becomes of this
    /// process. It replaces a trace before.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn start_trace(&mut self, trace: &Trace) -> Result<(), DatapathError> {
        map::array_mut::<Trace>(&mut self.ebpf, maps::TRACE)?
            .set(0, trace, 0)
            .map_err(failed("write", maps::TRACE))?;
        self.always = self.always.with(Features::TRACE);
        self.write_features(self.active.features().with(Features::TRACE))
    }

    /// Traces no packets any more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn stop_trace(&mut self) -> Result<(), DatapathError> {
        self.always = self.always.without(Features::TRACE);
        self.write_features(self.active.features().without(Features::TRACE))
    }

    /// Gives names to what a record says.
    pub fn describe_event(&self, event: &Event) -> Option<PacketEvent> {
        // Numbers of zones and rules mean something only in the epoch they were written in.
        let current = self.committed.as_ref().filter(|_| event.epoch == self.active.epoch());
        let zone = |zone: ZoneId| current.and_then(|committed| committed.zone_name(zone)).cloned();
        let rule = |index| current.and_then(|committed| committed.rule(index)).cloned();
        let [destination_mac, source_mac] = halves(event.macs);
        Some(PacketEvent {
            at: event.at,
            reason: Reason::from_index(event.reason.into())?,
            rule: event.rule().and_then(rule),
            from: zone(event.from),
            to: zone(event.to),
            interface: self.interface_name(IfIndex::new(event.ifindex)?),
            hook: Hook::from_number(event.hook)?,
            ip: (event.is_ip != 0).then(|| PacketEnds {
                protocol: event.protocol,
                source: SocketAddr::new(event.source.to_ip(), event.source_port),
                destination: SocketAddr::new(event.destination.to_ip(), event.destination_port),
                tcp_flags: event.tcp_flags,
            }),
            ether_type: event.ether_type,
            source_mac,
            destination_mac,
            length: event.length,
            suppressed: event.suppressed,
        })
    }

    /// The name of an attached interface, or else its number.
    pub fn interface_name(&self, index: IfIndex) -> String {
        let attached = self.attached.get(&index);
        attached.map_or_else(|| format!("#{index}"), |attached| attached.name.clone())
    }

    fn ring(&self, name: &'static str) -> Result<Events, DatapathError> {
        let Map::RingBuf(data) = map::map(&self.ebpf, name)? else {
            return Err(DatapathError::Missing { object: name });
        };
        let id = data.info().map_err(failed("look at", name))?.id();
        let map = MapData::from_id(id)
            .and_then(Map::from_map_data)
            .and_then(RingBuf::try_from)
            .map_err(failed("open", name))?;
        Ok(Events(map))
    }

    /// Changes nothing but the features in the word in force.
    pub(crate) fn write_features(&mut self, features: Features) -> Result<(), DatapathError> {
        self.refresh()?;
        if self.committed.is_none() || self.active.features() == features {
            return Ok(());
        }
        self.write_active(self.active.with_features(features))
    }
}

fn halves(macs: [u8; 12]) -> [[u8; 6]; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = macs;
    [[a, b, c, d, e, f], [g, h, i, j, k, l]]
}
