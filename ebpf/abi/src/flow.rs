//! The flow tables.

use crate::{Address, Facts, Sender, ZoneId, nat::Translation, sender::sent};

/// Key of [`crate::maps::FLOWS`] and [`crate::maps::OPENING`], the same for both directions of a flow.
///
/// The lower of the two endpoints (address, then port) comes first. Ports are zero for protocols that have
/// none; both carry the identifier of an ICMP or ICMPv6 query.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FlowKey {
    /// Address of the lower endpoint.
    pub low: Address,
    /// Address of the higher endpoint.
    pub high: Address,
    /// Port of the lower endpoint, host order.
    pub low_port: u16,
    /// Port of the higher endpoint, host order.
    pub high_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Type of an ICMP or ICMPv6 message, that of the query for an answer; 0 for other protocols.
    pub icmp_type: u8,
    /// Code of an ICMP or ICMPv6 message; 0 for other protocols.
    pub icmp_code: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<FlowKey>() == 40);

/// Which endpoint of a [`FlowKey`] is meant.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The lower endpoint.
    Low = 0,
    /// The higher endpoint.
    High = 1,
}

impl End {
    /// The end with this number; any but 0 is that of the higher.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        if number == Self::Low as u8 { Self::Low } else { Self::High }
    }

    /// The other one.
    #[inline(always)]
    pub const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

impl FlowKey {
    /// The key of a packet of a protocol other than ICMP and ICMPv6, and the end that sent it.
    #[inline(always)]
    pub fn new(protocol: u8, source: (Address, u16), destination: (Address, u16)) -> (Self, End) {
        if is_low(source, destination) {
            (Self::ordered(protocol, source, destination), End::Low)
        } else {
            (Self::ordered(protocol, destination, source), End::High)
        }
    }

    /// The key with an ICMP or ICMPv6 message's type, that of the query for an answer, and code.
    #[inline(always)]
    pub const fn with_message(self, icmp_type: u8, icmp_code: u8) -> Self {
        Self { icmp_type, icmp_code, ..self }
    }

    #[inline(always)]
    fn ordered(protocol: u8, low: (Address, u16), high: (Address, u16)) -> Self {
        Self {
            low: low.0,
            high: high.0,
            low_port: low.1,
            high_port: high.1,
            protocol,
            icmp_type: 0,
            icmp_code: 0,
            pad: 0,
        }
    }
}

/// Any total order would do; this one compares machine words.
#[inline(always)]
fn is_low(a: (Address, u16), b: (Address, u16)) -> bool {
    let ([a_high, a_low], [b_high, b_low]) = (a.0.halves(), b.0.halves());
    if a_high != b_high {
        a_high < b_high
    } else if a_low != b_low {
        a_low < b_low
    } else {
        a.1 <= b.1
    }
}

/// Value of [`crate::maps::FLOWS`] and [`crate::maps::OPENING`]: a flow that was accepted, and how.
///
/// `packets`, `bytes` and `senders` are by [`Direction`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flow {
    /// Nanoseconds since boot (`CLOCK_MONOTONIC`) of the first packet.
    pub first_seen: u64,
    /// Nanoseconds since boot (`CLOCK_MONOTONIC`) of the last packet.
    pub last_seen: u64,
    /// Frames by direction.
    pub packets: [u64; 2],
    /// Bytes by direction.
    pub bytes: [u64; 2],
    /// What rules ask of its first packet, however often it is judged.
    pub facts: Facts,
    /// Epoch it was judged in.
    pub epoch: u32,
    /// Interface its first packet came in by; 0 if the gateway itself sent it.
    pub origin_ifindex: u32,
    /// Tag of the service that it was intercepted or hosted for; 0 for none.
    pub service: u32,
    /// Index of the rule that accepted it, in the bank of its epoch.
    pub rule: u32,
    /// Index, plus 1, of the rule that only counts and matched before that one; 0 for none.
    pub counting: u32,
    /// Seconds without a packet after which it is over.
    pub idle_limit: u32,
    /// What each end has sent.
    pub senders: [Sender; 2],
    /// Number of what it was hosted for, see [`crate::intercept::hosted_mark`]; 0 for none.
    pub hosted: u16,
    /// Zone it came from.
    pub from: ZoneId,
    /// Zone it goes to.
    pub to: ZoneId,
    /// [`End`] that sent the first packet.
    pub origin: u8,
    /// Mirror session; 0 for none.
    pub mirror_session: u8,
    /// Hash of its key by which the mirror samples flows and spreads them; the same for both directions and for fragments.
    pub mirror_hash: u16,
    /// How its ends appear to each other.
    pub translation: Translation,
}

const _: () = assert!(size_of::<Flow>() == 184);

/// Direction of a packet in its flow: the index of [`Flow::packets`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the originator.
    Original = 0,
    /// Back to it.
    Reply = 1,
}

impl Direction {
    /// The other one.
    #[inline(always)]
    pub const fn other(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Phase {
    /// The originator has not yet sent again after having been answered.
    Opening,
    /// Both ends have shown that they hear each other.
    Established,
    /// A TCP connection that one end has closed.
    Closing,
    /// A TCP connection that both ends have closed, or one has reset.
    Closed,
}

impl Flow {
    /// The end of its key that sent the first packet.
    #[inline(always)]
    pub const fn originator(&self) -> End {
        End::from_number(self.origin)
    }

    /// The end of its key that sends in a direction.
    #[inline(always)]
    pub const fn end_of(&self, direction: Direction) -> End {
        match direction {
            Direction::Original => self.originator(),
            Direction::Reply => self.originator().other(),
        }
    }

    /// Direction of what an end of its key sends.
    #[inline(always)]
    pub const fn direction_of(&self, sender: End) -> Direction {
        match (self.originator(), sender) {
            (End::Low, End::Low) | (End::High, End::High) => Direction::Original,
            (End::Low, End::High) | (End::High, End::Low) => Direction::Reply,
        }
    }

    /// How far it is.
    #[inline(always)]
    pub const fn phase(&self) -> Phase {
        let [origin, responder] = [self.senders[0].flags, self.senders[1].flags];
        if (origin | responder) & sent::RESET != 0 || origin & responder & sent::FIN != 0 {
            Phase::Closed
        } else if (origin | responder) & sent::FIN != 0 {
            Phase::Closing
        } else if origin & sent::CONFIRMATION != 0 {
            Phase::Established
        } else {
            Phase::Opening
        }
    }

    /// Whether no packet has come for so long that the next one begins another flow. `now` is nanoseconds
    /// since boot by `CLOCK_MONOTONIC`.
    #[inline(always)]
    pub const fn is_idle(&self, now: u64) -> bool {
        const SECOND: u64 = 1_000_000_000;
        now.saturating_sub(self.last_seen) >= self.idle_limit as u64 * SECOND
    }
}

impl Phase {
    /// The word that operators see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_one_key_and_different_ends() {
        let a = (Address::from_v4([10, 0, 0, 9]), 40000);
        let b = (Address::from_v4([10, 0, 0, 1]), 80);
        let (there, sender) = FlowKey::new(6, a, b);
        let (back, replier) = FlowKey::new(6, b, a);
        assert_eq!(there, back);
        assert_ne!(sender, replier);
    }

    #[test]
    fn ports_order_a_flow_between_one_address() {
        let address = Address::from_v6([7; 16]);
        let (key, end) = FlowKey::new(17, (address, 9), (address, 4));
        assert_eq!((key.low_port, key.high_port, end), (4, 9, End::High));
        assert_eq!(FlowKey::new(17, (address, 4), (address, 9)), (key, End::Low));
    }

    #[test]
    fn messages_of_different_types_are_different_flows() {
        let (a, b) = ((Address::from_v4([10, 0, 0, 9]), 7), (Address::from_v4([10, 0, 0, 1]), 7));
        let echo = FlowKey::new(1, a, b).0.with_message(8, 0);
        assert_eq!(echo, FlowKey::new(1, b, a).0.with_message(8, 0));
        assert_ne!(echo, FlowKey::new(1, a, b).0.with_message(13, 0));
    }

    #[test]
    fn a_packet_goes_back_unless_the_originator_sends_it() {
        for end in [End::Low, End::High] {
            let flow = Flow { origin: end as u8, ..Flow::default() };
            assert_eq!(flow.originator(), end);
            assert_eq!(flow.direction_of(end), Direction::Original);
            assert_eq!(flow.direction_of(end.other()), Direction::Original.other());
            assert_ne!(end, end.other());
        }
    }

    #[test]
    fn a_flow_is_established_by_its_originator_and_closed_by_a_reset_or_two_fins() {
        let phase = |origin, responder| {
            let senders = [origin, responder].map(|flags| Sender { flags, ..Sender::default() });
            Flow { senders, ..Flow::default() }.phase()
        };
        let (any, confirmed) = (sent::ANYTHING, sent::ANYTHING | sent::CONFIRMATION);
        assert_eq!(phase(any, 0), Phase::Opening);
        assert_eq!(phase(any, any), Phase::Opening);
        assert_eq!(phase(confirmed, any), Phase::Established);
        assert_eq!(phase(confirmed | sent::FIN, any), Phase::Closing);
        assert_eq!(phase(confirmed, any | sent::FIN), Phase::Closing);
        assert_eq!(phase(confirmed | sent::FIN, any | sent::FIN), Phase::Closed);
        assert_eq!(phase(any, any | sent::RESET), Phase::Closed);
    }

    #[test]
    fn a_flow_is_idle_from_its_limit_on() {
        let flow = Flow { last_seen: 5, idle_limit: 2, ..Flow::default() };
        assert!(!flow.is_idle(4));
        assert!(!flow.is_idle(2_000_000_004));
        assert!(flow.is_idle(2_000_000_005));
    }
}
