//! The flow table.

use crate::{Address, ZoneId};

/// Key of [`crate::maps::FLOWS`], the same for both directions of a flow.
///
/// The lower of the two endpoints (address, then port) comes first. Ports are zero for protocols that have
/// none; both carry the identifier of an ICMP or ICMPv6 echo.
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
    /// Zero.
    pub pad: [u8; 3],
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

impl FlowKey {
    /// The key of a packet, and the end that sent it.
    #[inline(always)]
    pub fn new(protocol: u8, source: (Address, u16), destination: (Address, u16)) -> (Self, End) {
        if is_low(source, destination) {
            (Self::ordered(protocol, source, destination), End::Low)
        } else {
            (Self::ordered(protocol, destination, source), End::High)
        }
    }

    #[inline(always)]
    fn ordered(protocol: u8, low: (Address, u16), high: (Address, u16)) -> Self {
        Self { low: low.0, high: high.0, low_port: low.1, high_port: high.1, protocol, pad: [0; 3] }
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

/// Value of [`crate::maps::FLOWS`]: a flow that was accepted, and how.
///
/// `packets` and `bytes` count from the originator (index 0) and back to it (index 1).
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
    /// Epoch it was judged in.
    pub epoch: u32,
    /// Interface its first packet came in by; 0 if the gateway itself sent it.
    pub origin_ifindex: u32,
    /// Tag of the intercepted service; 0 for none.
    pub service: u32,
    /// Mirror session; 0 for none.
    pub mirror_session: u16,
    /// Zero.
    pub pad: u16,
    /// Zone it came from.
    pub from: ZoneId,
    /// Zone it goes to.
    pub to: ZoneId,
    /// [`End`] that sent the first packet.
    pub origin: u8,
    /// [`state`] bits.
    pub state: u8,
    /// Index of the rule that accepted it, in the bank of its epoch.
    pub rule: u32,
}

const _: () = assert!(size_of::<Flow>() == 72);

/// Bits of [`Flow::state`].
pub mod state {
    /// The originator has been answered.
    pub const REPLIED: u8 = 1 << 0;
    /// The originator sent a TCP FIN.
    pub const FIN_ORIGIN: u8 = 1 << 1;
    /// The other end sent a TCP FIN.
    pub const FIN_REPLY: u8 = 1 << 2;
    /// Either end sent a TCP RST.
    pub const RESET: u8 = 1 << 3;

    /// Whether a TCP connection in this state is over: reset, or closed from both ends.
    #[inline(always)]
    pub const fn is_closed(state: u8) -> bool {
        state & RESET != 0 || state & (FIN_ORIGIN | FIN_REPLY) == FIN_ORIGIN | FIN_REPLY
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
    fn closed_means_reset_or_two_fins() {
        assert!(!state::is_closed(state::REPLIED | state::FIN_ORIGIN));
        assert!(state::is_closed(state::FIN_ORIGIN | state::FIN_REPLY));
        assert!(state::is_closed(state::RESET));
    }
}
