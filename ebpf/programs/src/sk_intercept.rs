//! Lookup of sockets: whose are connections to intercepted destinations, and datagrams to them that came in fragments.
//!
//! Whole datagrams have their socket before anybody looks one up, and segments find that of their connection. What is left comes here under
//! addresses that are not this host's; without an answer from here, a socket of the host that listens on its port at any
//! address would have it. The stack asks for a listener as well where a connection begins from the port of one
//! that has ended and is in TIME-WAIT (RFC 9293, 3.6.1): with an answer from here, it gives way.

use aya_ebpf::{
    bindings::{
        BPF_SK_LOOKUP_F_REPLACE,
        sk_action::{SK_DROP, SK_PASS},
    },
    macros::sk_lookup,
    programs::SkLookupContext,
};
use nightgate_abi::{
    Address, FlowKey, Reason, ZoneId,
    flow::Direction,
    listener::{self, Transport},
};
use nightgate_packet::protocol;

use crate::{
    maps,
    stage::{report, track::table},
};

/// Address family of IPv4 (linux/socket.h); the only other one here is that of IPv6.
const AF_INET: u32 = 2;

/// Reads a field: one load, which the compiler may neither merge with another nor move.
macro_rules! load {
    ($ctx:expr, $($field:tt)+) => {
        // SAFETY: the context is valid for the whole program run.
        unsafe { core::ptr::read_volatile(&raw const (*$ctx.lookup).$($field)+) }
    };
}

/// An end of what a socket is looked up for: its address and port.
type Socket = (Address, u16);

#[sk_lookup]
pub(crate) fn sk_intercept(ctx: SkLookupContext) -> u32 {
    let (protocol, transport) = match load!(ctx, protocol) as u8 {
        protocol::TCP => (protocol::TCP, Transport::Tcp),
        protocol::UDP => (protocol::UDP, Transport::Udp),
        _ => return SK_PASS,
    };
    let (source, destination) = ends(&ctx);
    if destination.0.is_loopback() || !is_intercepted(protocol, source, destination) {
        return SK_PASS;
    }
    let index = listener::index(transport, destination.0.family());
    let replace = u64::from(BPF_SK_LOOKUP_F_REPLACE);
    match maps::LISTENING_SOCKETS.redirect_sk_lookup(&ctx, index, replace) {
        Ok(()) => SK_PASS,
        Err(_nobody) => {
            // The gateway's process has ended since the first fragment, or the earlier connection.
            report::count_reason(Reason::ListenerGone, 0);
            SK_DROP
        }
    }
}

#[inline(always)]
fn ends(ctx: &SkLookupContext) -> (Socket, Socket) {
    let (source, destination) = if load!(ctx, family) == AF_INET {
        let [source, destination] = [load!(ctx, remote_ip4), load!(ctx, local_ip4)];
        (Address::from_v4(source.to_ne_bytes()), Address::from_v4(destination.to_ne_bytes()))
    } else {
        let source = [
            load!(ctx, remote_ip6[0]),
            load!(ctx, remote_ip6[1]),
            load!(ctx, remote_ip6[2]),
            load!(ctx, remote_ip6[3]),
        ];
        let destination = [
            load!(ctx, local_ip6[0]),
            load!(ctx, local_ip6[1]),
            load!(ctx, local_ip6[2]),
            load!(ctx, local_ip6[3]),
        ];
        (Address::from_quarters(source), Address::from_quarters(destination))
    };
    let source_port = u16::from_be(load!(ctx, remote_port));
    ((source, source_port), (destination, load!(ctx, local_port) as u16))
}

/// Whether the first fragment, or the segment, was accepted as one to the overlay.
#[inline(always)]
fn is_intercepted(protocol: u8, source: Socket, destination: Socket) -> bool {
    let (key, sender) = FlowKey::new(protocol, source, destination);
    let Some((slot, _)) = table::find(&key) else {
        return false;
    };
    // SAFETY: the slot stays mapped while the program runs.
    let flow = unsafe { &*slot };
    !flow.is_alias()
        && flow.to == ZoneId::OVERLAY
        && flow.direction_of(sender) == Direction::Original
}
