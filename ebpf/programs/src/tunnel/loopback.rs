//! TC egress of the loopback interface: tells the tunneler whose packets come to its ports, and keeps out those that
//! no hook has turned there.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::bpf_get_socket_cookie,
    macros::classifier,
    programs::TcContext,
};
use nightgate_abi::{
    Address,
    tunnel::{OriginKey, Source, listener},
};
use nightgate_packet::protocol::{TCP, UDP};

use crate::{
    copies::{self, Wanted},
    maps,
    packet::{IPV4, IPV6, LINK, Packet, begins},
};

#[classifier]
pub(crate) fn tunnel_loopback(ctx: TcContext) -> i32 {
    match judge(&ctx) {
        Some(false) => TC_ACT_SHOT,
        // Whatever else is attached to the interface goes on.
        Some(true) | None => {
            copies::copy(&ctx, of_socket);
            TC_ACT_UNSPEC
        }
    }
}

/// What the program wanted whose socket has sent a packet.
#[inline(always)]
fn of_socket(ctx: &TcContext, packet: &Packet) -> Option<Wanted> {
    let ends = &packet.ends;
    let port = listener(ends.protocol, ends.destination_port);
    // SAFETY: the reference is read at once.
    let slot = unsafe { maps::TUNNEL_PORTS.get(&port) }.copied()?;
    // SAFETY: the context is this program's.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: the reference is read at once.
    let origin = unsafe { maps::TUNNEL_ORIGINS.get(&OriginKey { cookie, slot, pad: 0 }) }?;
    Some(Wanted { address: origin.destination, port: origin.port, service: origin.service })
}

/// Whether a packet to the tunneler may pass; `None` for one that is not for it.
#[inline(always)]
fn judge(ctx: &TcContext) -> Option<bool> {
    let ether_type = u16::from_be(ctx.load::<u16>(LINK - 2).ok()?);
    let (source, protocol, header) = match ether_type {
        IPV4 => {
            let words = ctx.load::<u8>(LINK).ok()? & 0x0f;
            let address = Address::from_v4(ctx.load::<[u8; 4]>(LINK + 12).ok()?);
            (address, ctx.load::<u8>(LINK + 9).ok()?, LINK + usize::from(words) * 4)
        }
        IPV6 => {
            let address = Address::from_v6(ctx.load::<[u8; 16]>(LINK + 8).ok()?);
            (address, ctx.load::<u8>(LINK + 6).ok()?, LINK + 40)
        }
        _ => return None,
    };
    if protocol != TCP && protocol != UDP {
        return None;
    }
    let [from, to] = ctx.load::<[u16; 2]>(header).ok()?.map(u16::from_be);
    // SAFETY: the reference is read at once.
    let slot = unsafe { maps::TUNNEL_PORTS.get(&listener(protocol, to)) }.copied()?;
    if protocol == TCP && !begins(ctx, header)? {
        return None;
    }
    // SAFETY: the context is this program's.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let key = OriginKey { cookie, slot, pad: 0 };
    // SAFETY: only whether there is one is looked at.
    if unsafe { maps::TUNNEL_ORIGINS.get(&key) }.is_none() {
        return Some(false);
    }
    let source = Source::new(source, from, protocol);
    // SAFETY: the reference is read at once.
    if unsafe { maps::TUNNEL_SOURCES.get(&source) } == Some(&cookie) {
        return Some(true);
    }
    Some(maps::TUNNEL_SOURCES.insert(&source, &cookie, u64::from(BPF_ANY)).is_ok())
}
