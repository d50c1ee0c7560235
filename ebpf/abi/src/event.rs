//! What the programs tell of single packets: log records of rules, and live traces.

use crate::{Address, Rate, ZoneId, forest::NO_RULE, reason::Kind};

/// Record in [`crate::maps::LOG`] and [`crate::maps::TRACES`]: a packet, and what became of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Event {
    /// Nanoseconds since boot (`CLOCK_MONOTONIC`).
    pub at: u64,
    /// Records of the same rule that were left out since the one before, as there were too many. Nearly: CPUs
    /// that count at the same time may lose some.
    pub suppressed: u64,
    /// Source, before any translation; unspecified unless [`Event::is_ip`].
    pub source: Address,
    /// Destination, before any translation; unspecified unless [`Event::is_ip`].
    pub destination: Address,
    /// Epoch of the rules it was judged by.
    pub epoch: u32,
    /// Index of the rule that decided, or [`NO_RULE`].
    pub rule: u32,
    /// Index of the interface.
    pub ifindex: u32,
    /// Bytes, link layer included.
    pub length: u32,
    /// Source port, or identifier of an ICMP echo.
    pub source_port: u16,
    /// Destination port, or identifier of an ICMP echo.
    pub destination_port: u16,
    /// [`crate::Reason::index`].
    pub reason: u16,
    /// EtherType, host order.
    pub ether_type: u16,
    /// Link-layer destination, then source.
    pub macs: [u8; 12],
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags.
    pub tcp_flags: u8,
    /// [`crate::Hook::number`].
    pub hook: u8,
    /// 1 if the packet is a well-formed IP packet, so that addresses, ports and protocol are known; else 0.
    pub is_ip: u8,
    /// Zone the flow comes from, if it was judged.
    pub from: ZoneId,
    /// Zone the flow goes to, if it was judged.
    pub to: ZoneId,
    /// Zero.
    pub pad: [u8; 6],
}

const _: () = assert!(size_of::<Event>() == 96);

/// A set of addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Network {
    /// Network order; bits outside the mask are zero.
    pub address: [u64; 2],
    /// Network order; zero for every address.
    pub mask: [u64; 2],
}

/// Value of [`crate::maps::TRACE`]: which packets are traced, how many of them, and how long.
///
/// What is zero restricts nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trace {
    /// Nanoseconds since boot (`CLOCK_MONOTONIC`) when it ends, whether or not anybody ends it.
    pub deadline: u64,
    /// How many records each CPU may write.
    pub rate: Rate,
    /// Where it comes from.
    pub source: Network,
    /// Where it goes to.
    pub destination: Network,
    /// Either of the two.
    pub host: Network,
    /// Interface.
    pub ifindex: u32,
    /// A packet is looked at if a random number is not above this.
    pub sample: u32,
    /// [`crate::Reason::index`] and 1.
    pub reason: u16,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Either of the two.
    pub port: u16,
    /// IP protocol number and 1.
    pub protocol: u16,
    /// [`crate::Hook::number`] and 1.
    pub hook: u8,
    /// [`verdict`].
    pub verdict: u8,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<Trace>() == 144);

/// Values of [`Trace::verdict`].
pub mod verdict {
    /// Packets that pass.
    pub const PASS: u8 = 1;
    /// Packets that are refused.
    pub const DROP: u8 = 2;
}

/// Key of [`crate::maps::LOG_STATES`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogKey {
    /// Epoch of the rules.
    pub epoch: u32,
    /// Index of the rule, or [`NO_RULE`].
    pub rule: u32,
}

/// Value of [`crate::maps::LOG_STATES`]: how much a rule has logged.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogState {
    /// Fills at [`LOG_RATE`].
    pub bucket: crate::Bucket,
    /// See [`Event::suppressed`].
    pub suppressed: u64,
}

/// How many records a rule writes at most: 10 in a second, 20 at once.
pub const LOG_RATE: Rate = Rate::new(10, 1_000_000_000, 20);

impl Network {
    /// Whether an address is in it.
    #[inline(always)]
    pub fn contains(&self, address: Address) -> bool {
        let halves = address.halves();
        (halves[0] ^ self.address[0]) & self.mask[0] == 0
            && (halves[1] ^ self.address[1]) & self.mask[1] == 0
    }

    /// Whether it is every address.
    #[inline(always)]
    pub fn is_any(&self) -> bool {
        self.mask[0] == 0 && self.mask[1] == 0
    }
}

impl Event {
    /// The rule that decided, by its index.
    pub const fn rule(&self) -> Option<u32> {
        if self.rule == NO_RULE { None } else { Some(self.rule) }
    }
}

impl Trace {
    /// Whether a packet is one of those that are traced.
    #[inline(always)]
    pub fn wants(&self, event: &Event, kind: Kind) -> bool {
        is_any_or(self.ifindex, event.ifindex)
            && is_any_or(u32::from(self.reason), u32::from(event.reason) + 1)
            && is_any_or(u32::from(self.hook), u32::from(event.hook) + 1)
            && match kind {
                Kind::Drop => self.verdict != verdict::PASS,
                Kind::Pass | Kind::Event => self.verdict != verdict::DROP,
            }
            && self.wants_ends(event)
    }

    #[inline(always)]
    fn wants_ends(&self, event: &Event) -> bool {
        if event.is_ip == 0 {
            return self.is_without_ends();
        }
        let [source, destination] = [event.source_port, event.destination_port].map(u32::from);
        let port = u32::from(self.port);
        is_any_or(u32::from(self.protocol), u32::from(event.protocol) + 1)
            && self.source.contains(event.source)
            && self.destination.contains(event.destination)
            && (self.host.contains(event.source) || self.host.contains(event.destination))
            && is_any_or(u32::from(self.source_port), source)
            && is_any_or(u32::from(self.destination_port), destination)
            && (port == 0 || port == source || port == destination)
    }

    /// Whether it says nothing of addresses, ports and protocols, which only well-formed packets have.
    #[inline(always)]
    fn is_without_ends(&self) -> bool {
        self.protocol == 0
            && self.source.is_any()
            && self.destination.is_any()
            && self.host.is_any()
            && self.source_port | self.destination_port | self.port == 0
    }
}

#[inline(always)]
const fn is_any_or(wanted: u32, found: u32) -> bool {
    wanted == 0 || wanted == found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hook, Reason};

    fn event() -> Event {
        Event {
            source: Address::from_v4([10, 1, 0, 2]),
            destination: Address::from_v4([192, 0, 2, 1]),
            source_port: 4_000,
            destination_port: 80,
            protocol: 6,
            ifindex: 3,
            reason: number(Reason::Rule),
            hook: Hook::Egress.number(),
            is_ip: 1,
            ..Event::default()
        }
    }

    fn number(reason: Reason) -> u16 {
        u16::try_from(reason.index()).unwrap()
    }

    fn network(address: [u8; 4]) -> Network {
        let mask = Address::from_v6([0xff; 16]).halves();
        Network { address: Address::from_v4(address).halves(), mask }
    }

    #[test]
    fn each_condition_restricts() {
        let any = Trace::default();
        let all = [
            Trace { source: network([10, 1, 0, 2]), ..any },
            Trace { destination: network([192, 0, 2, 1]), ..any },
            Trace { host: network([192, 0, 2, 1]), ..any },
            Trace { ifindex: 3, ..any },
            Trace { reason: number(Reason::Rule) + 1, ..any },
            Trace { source_port: 4_000, ..any },
            Trace { destination_port: 80, ..any },
            Trace { port: 80, ..any },
            Trace { port: 4_000, ..any },
            Trace { protocol: 7, ..any },
            Trace { hook: 2, ..any },
            Trace { verdict: verdict::DROP, ..any },
        ];
        let other = Event {
            source: Address::from_v4([10, 1, 0, 3]),
            destination: Address::from_v4([192, 0, 2, 2]),
            source_port: 1,
            destination_port: 2,
            protocol: 17,
            ifindex: 4,
            reason: number(Reason::Local),
            hook: Hook::Ingress.number(),
            ..event()
        };
        for trace in all {
            assert!(trace.wants(&event(), Kind::Drop), "{trace:?}");
            assert!(!trace.wants(&other, Kind::Pass), "{trace:?}");
        }
        assert!(any.wants(&other, Kind::Pass) && any.wants(&event(), Kind::Drop));
        assert!(!Trace { verdict: verdict::PASS, ..any }.wants(&event(), Kind::Drop));
    }

    #[test]
    fn what_is_not_ip_has_no_address() {
        let broken = Event { is_ip: 0, ..event() };
        assert!(Trace::default().wants(&broken, Kind::Drop));
        assert!(!Trace { port: 80, ..Trace::default() }.wants(&broken, Kind::Drop));
        let host = Trace { host: network([10, 1, 0, 2]), ..Trace::default() };
        assert!(!host.wants(&broken, Kind::Drop));
    }
}
