//! How flows are kept.

use crate::{flow::Phase, limits::idle, mss::MssBounds};

/// Value of [`crate::maps::SETTINGS`], one for each bank, so that they change with the rules.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Seconds without a packet after which TCP connections that are not established are over.
    pub tcp_opening: u32,
    /// Likewise established TCP connections.
    pub tcp_established: u32,
    /// Likewise TCP connections that an end has closed or reset.
    pub tcp_closing: u32,
    /// Likewise UDP flows whose originator has not sent again after an answer.
    pub udp_opening: u32,
    /// Likewise other UDP flows.
    pub udp: u32,
    /// Likewise ICMP and ICMPv6 flows.
    pub icmp: u32,
    /// Likewise flows of other protocols.
    pub other: u32,
    /// Whether rules may accept a TCP connection in its middle: 1 if so, else 0.
    pub picks_up: u32,
    /// Bounds of TCP segments.
    pub mss: MssBounds,
}

const _: () = assert!(size_of::<Settings>() == 160);

/// IP protocol numbers (IANA) with limits of their own.
mod protocol {
    pub(super) const ICMP: u8 = 1;
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    pub(super) const ICMPV6: u8 = 58;
}

impl Settings {
    /// What holds unless the configuration says otherwise.
    pub const DEFAULT: Self = Self {
        tcp_opening: idle::TCP_OPENING,
        tcp_established: idle::TCP_ESTABLISHED,
        tcp_closing: idle::TCP_CLOSING,
        udp_opening: idle::UDP_OPENING,
        udp: idle::UDP,
        icmp: idle::ICMP,
        other: idle::OTHER,
        picks_up: 1,
        mss: MssBounds::NONE,
    };

    /// Seconds without a packet after which a flow is over.
    #[inline(always)]
    pub const fn idle_limit(&self, protocol: u8, phase: Phase) -> u32 {
        match (protocol, phase) {
            (protocol::TCP, Phase::Opening) => self.tcp_opening,
            (protocol::TCP, Phase::Established) => self.tcp_established,
            (protocol::TCP, Phase::Closing | Phase::Closed) => self.tcp_closing,
            (protocol::UDP, Phase::Opening) => self.udp_opening,
            (protocol::UDP, Phase::Established | Phase::Closing | Phase::Closed) => self.udp,
            (protocol::ICMP | protocol::ICMPV6, _) => self.icmp,
            (_, _) => self.other,
        }
    }
}
