//! Address translation: what rules make of a flow's ends, and what flows remember of it.
//!
//! The key of a translated flow is what both directions look like inside the gateway: after the destination has
//! been changed, before the source is. Packets from outside find it by an alias, an entry of the same table under
//! the addresses and ports that are used outside.

use crate::{
    Address, Flow, FlowKey, Slot,
    flow::{Direction, End},
};

/// How the ends of a flow appear to each other; in an alias, what it stands for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Translation {
    /// Whom packets appear to come from once they have left, by [`crate::flow::Direction`]. In an alias, the first
    /// is what becomes of the end [`Flow::origin`] of its key.
    pub guises: [Guise; 2],
    /// Interface whose address the originator has; 0 if it has another.
    pub ifindex: u32,
    /// [`translated`] bits.
    pub flags: u8,
    /// Zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<Translation>() == 56);

/// How an end of a flow appears.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Guise {
    /// Its address.
    pub address: Address,
    /// Counter of the rule that says so, in the bank of the flow's epoch: see [`crate::maps::rule_counter`];
    /// [`NO_COUNTER`] if no rule of that bank does.
    pub counter: u32,
    /// Its port, or the identifier of an ICMP query.
    pub port: u16,
    /// Zero.
    pub pad: u16,
}

/// [`Guise::counter`] of a guise that no rule has given.
pub const NO_COUNTER: u32 = u32::MAX;

/// Bits of [`Translation::flags`].
pub mod translated {
    /// The originator appears as another to the other end.
    pub const ORIGINATOR: u8 = 1 << 0;
    /// The other end appears as another to the originator.
    pub const RESPONDER: u8 = 1 << 1;
    /// Whether the originator appears as another is decided when its first packet leaves.
    pub const PENDING: u8 = 1 << 2;
    /// The entry is no flow, but an alias of one.
    pub const ALIAS: u8 = 1 << 3;
}

impl Guise {
    /// An address and port, by a rule.
    #[inline(always)]
    pub const fn new((address, port): (Address, u16), counter: u32) -> Self {
        Self { address, counter, port, pad: 0 }
    }

    /// Address and port.
    #[inline(always)]
    pub const fn endpoint(&self) -> (Address, u16) {
        (self.address, self.port)
    }
}

impl Translation {
    /// Whom the packets of a direction appear to come from once they have left; none if they come from whom they come
    /// from.
    #[inline(always)]
    pub const fn guise(&self, direction: Direction) -> Option<&Guise> {
        let [originator, responder] = &self.guises;
        let (flag, guise) = match direction {
            Direction::Original => (translated::ORIGINATOR, originator),
            Direction::Reply => (translated::RESPONDER, responder),
        };
        if self.flags & flag == 0 { None } else { Some(guise) }
    }
}

impl Flow {
    /// Whether the entry is an alias.
    #[inline(always)]
    pub const fn is_alias(&self) -> bool {
        self.translation.flags & translated::ALIAS != 0
    }
}

impl FlowKey {
    /// Address and port of an end.
    #[inline(always)]
    pub const fn endpoint(&self, end: End) -> (Address, u16) {
        match end {
            End::Low => (self.low, self.low_port),
            End::High => (self.high, self.high_port),
        }
    }

    /// The key with another endpoint in the place of one, and which end that is then. The identifier of an ICMP
    /// query is that of both ends.
    #[inline(always)]
    pub fn with_end(&self, replaced: End, endpoint: (Address, u16)) -> (Self, End) {
        /// ICMP and ICMPv6 (IANA).
        const ICMP: [u8; 2] = [1, 58];
        let (other, port) = self.endpoint(replaced.other());
        let is_icmp = self.protocol == ICMP[0] || self.protocol == ICMP[1];
        let port = if is_icmp { endpoint.1 } else { port };
        let (key, end) = Self::new(self.protocol, endpoint, (other, port));
        (key.with_message(self.icmp_type, self.icmp_code), end)
    }
}

/// What an end of a flow becomes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Target {
    /// [`kind`].
    pub kind: u8,
    /// Index of the rule's counter in its bank: see [`crate::maps::rule_counter`].
    pub counter: u32,
    /// First new address.
    pub address: Address,
    /// Bits that the new address takes from the old one, network order.
    pub kept: [u64; 2],
    /// How many addresses there are beside the first.
    pub address_span: u64,
    /// The new ports.
    pub ports: Ports,
}

/// New ports. Every port of [`Ports::ANY`] becomes itself; a source may get any that is free.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    /// The lowest.
    pub low: u16,
    /// The highest less the lowest.
    pub span: u16,
    /// The old port that becomes the lowest; for sources, which are free to choose, 0.
    pub replaced: u16,
}

impl Ports {
    /// All of them.
    pub const ANY: Self = Self { low: 0, span: u16::MAX, replaced: 0 };
}

impl Default for Ports {
    fn default() -> Self {
        Self::ANY
    }
}

/// Values of [`Target::kind`].
pub mod kind {
    /// What it is.
    pub const UNCHANGED: u8 = 0;
    /// An address.
    pub const ADDRESS: u8 = 1;
    /// The address of the interface that the flow leaves by.
    pub const INTERFACE: u8 = 2;
}

impl Target {
    /// The target as a slot of parameters.
    pub fn to_slot(&self) -> Slot {
        let mut slot = Slot::default();
        let Ports { low, span, replaced } = self.ports;
        slot.0[0] = u64::from(self.kind) | u64::from(self.counter) << 32;
        slot.0[1] = u64::from(low) | u64::from(span) << 16 | u64::from(replaced) << 32;
        [slot.0[2], slot.0[3]] = self.address.halves();
        [slot.0[4], slot.0[5]] = self.kept;
        slot.0[6] = self.address_span;
        slot
    }

    /// The target that [`Target::to_slot`] gave this slot for.
    #[expect(clippy::cast_possible_truncation, reason = "takes words apart")]
    #[inline(always)]
    pub fn from_slot(slot: &Slot) -> Self {
        let (first, ports) = (slot.0[0], slot.0[1]);
        Self {
            kind: first as u8,
            counter: (first >> 32) as u32,
            address: Address::from_halves([slot.0[2], slot.0[3]]),
            kept: [slot.0[4], slot.0[5]],
            address_span: slot.0[6],
            ports: Ports {
                low: ports as u16,
                span: (ports >> 16) as u16,
                replaced: (ports >> 32) as u16,
            },
        }
    }

    /// The address that another becomes, if that depends on nothing else: always the same of a range.
    #[inline(always)]
    pub fn address_for(&self, old: Address) -> Address {
        let (old, new) = (old.halves(), self.address.halves());
        let spread = if self.address_span == 0 {
            0
        } else if self.address_span == u64::MAX {
            mix(old)
        } else {
            mix(old) % (self.address_span + 1)
        };
        Address::from_halves([
            new[0] | old[0] & self.kept[0],
            (u64::from_be(new[1]).wrapping_add(spread)).to_be() | old[1] & self.kept[1],
        ])
    }

    /// The port that a destination's port becomes.
    #[inline(always)]
    pub fn destination_port(&self, old: u16) -> u16 {
        self.ports.low.wrapping_add(old.wrapping_sub(self.ports.replaced))
    }
}

/// Spreads addresses evenly over numbers.
#[inline(always)]
fn mix(halves: [u64; 2]) -> u64 {
    /// The golden ratio in 64 bits: neighbours end far apart.
    const RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (u64::from_be(halves[1]) ^ halves[0].wrapping_mul(RATIO)).wrapping_mul(RATIO);
    mixed ^ mixed >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_survives_as_a_slot() {
        let ports = Ports { low: 80, span: 9, replaced: 8000 };
        let target = Target {
            kind: kind::ADDRESS,
            counter: 199_999,
            address: Address::from_v6([3; 16]),
            kept: [1, 2],
            address_span: u64::MAX,
            ports,
        };
        assert_eq!(Target::from_slot(&target.to_slot()), target);
        let target = Target { ports: Ports::ANY, ..target };
        assert_eq!(Target::from_slot(&target.to_slot()), target);
    }

    #[test]
    fn a_prefix_keeps_the_hosts_of_another() {
        let kept = Address::from_v6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15]).halves();
        let address = Address::from_v4([203, 0, 113, 16]);
        let target = Target { kind: kind::ADDRESS, address, kept, ..Target::default() };
        let new = target.address_for(Address::from_v4([10, 3, 0, 5]));
        assert_eq!(new, Address::from_v4([203, 0, 113, 21]));
        assert_eq!(target.destination_port(80), 80);
    }

    #[test]
    fn a_range_gives_each_host_one_of_its_addresses() {
        let address = Address::from_v4([198, 51, 100, 255]);
        let target = Target { kind: kind::ADDRESS, address, address_span: 3, ..Target::default() };
        let mut seen = [0; 4];
        for host in 0..200 {
            let old = Address::from_v4([10, 0, 0, host]);
            let new = target.address_for(old);
            assert_eq!(new, target.address_for(old));
            let [198, 51, third, last] = new.v4_octets() else { panic!("{new:?}") };
            seen[usize::from(u16::from_be_bytes([third, last]) - 0x64ff)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    }

    #[test]
    fn an_end_is_replaced_and_back() {
        let inside = (Address::from_v4([10, 1, 0, 2]), 40_000);
        let outside = (Address::from_v4([198, 51, 100, 1]), 1024);
        let server = (Address::from_v4([192, 0, 2, 1]), 80);
        let (middle, origin) = FlowKey::new(6, inside, server);
        let (alias, replaced) = middle.with_end(origin, outside);
        assert_eq!((alias, replaced), FlowKey::new(6, outside, server));
        assert_eq!(alias.with_end(replaced, inside), (middle, origin));
    }

    #[test]
    fn both_ends_of_a_query_have_one_identifier() {
        let [inside, outside, server] = [1, 2, 3].map(|last| Address::from_v4([10, 0, 0, last]));
        let middle = FlowKey::new(1, (inside, 7), (server, 7)).0.with_message(8, 0);
        let (alias, _) = middle.with_end(End::Low, (outside, 9));
        assert_eq!((alias.low_port, alias.high_port, alias.icmp_type), (9, 9, 8));
    }

    #[test]
    fn ports_keep_their_place_in_the_range() {
        let ports = Ports { low: 80, span: 9, replaced: 8000 };
        let target = Target { ports, ..Target::default() };
        assert_eq!((target.destination_port(8000), target.destination_port(8009)), (80, 89));
    }
}
