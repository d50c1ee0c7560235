//! What happens to an accepted packet: it goes its way, or to the intercept listener.

use core::mem;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_F_CURRENT_NETNS, BPF_TCP_LISTEN, bpf_sock, bpf_sock_tuple,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as TupleV4,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as TupleV6,
    },
    helpers::generated::{bpf_sk_assign, bpf_sk_release, bpf_skc_lookup_tcp},
    programs::TcContext,
};
use nightgate_abi::{Address, Family, INTERCEPT_MARK, Reason, ZoneId, flow::Direction};
use nightgate_packet::{PacketMeta, Part, protocol};

use crate::{
    hook::Hook,
    maps,
    stage::track::{self, Passage, Place},
};

/// Lets an accepted packet go its way.
///
/// # Errors
/// An intercepted packet cannot be handed to the listener.
#[inline(always)]
pub(crate) fn act(
    ctx: &TcContext,
    meta: &PacketMeta,
    place: &Place,
    passage: &Passage,
) -> Result<Reason, Reason> {
    let way = way(place.hook, [passage.from, passage.to], passage.direction);
    if way == Reason::Intercepted { hand_to_listener(ctx, meta) } else { Ok(way) }
}

/// The way of an accepted packet of a flow from a zone to another.
#[inline(always)]
pub(crate) fn way(hook: Hook, zones: [ZoneId; 2], direction: Direction) -> Reason {
    if hook == Hook::Egress {
        return Reason::Sent;
    }
    let receiver = track::expected_zone(zones, direction, Hook::Egress);
    if receiver == ZoneId::OVERLAY {
        Reason::Intercepted
    } else if receiver == ZoneId::LOCAL {
        Reason::Local
    } else {
        Reason::Forwarded
    }
}

/// Assigns the packet to the connection it belongs to, or else to the listener, and marks it so that
/// policy routing delivers it locally. A fragment is delivered by its mark alone: the stack puts the packet together
/// and then finds the connection by itself, but no listener.
#[inline(never)]
fn hand_to_listener(ctx: &TcContext, meta: &PacketMeta) -> Result<Reason, Reason> {
    if meta.protocol != protocol::TCP {
        return Err(Reason::InterceptProtocol);
    }
    let connection = find_socket(ctx, meta, meta.destination, meta.destination_port);
    if !connection.is_null() {
        // SAFETY: a socket that the lookup returned and that has not been released.
        let is_connection = unsafe { (*connection).state } != BPF_TCP_LISTEN;
        if is_connection && meta.fragment.part == Part::Whole {
            return assign(ctx, connection);
        }
        // SAFETY: as above; it is not used afterwards.
        unsafe { bpf_sk_release(connection.cast()) };
        if is_connection {
            ctx.set_mark(INTERCEPT_MARK);
            return Ok(Reason::Intercepted);
        }
    }
    if meta.fragment.part != Part::Whole {
        return Err(Reason::InterceptFragment);
    }
    let listener = maps::LISTENERS.get(meta.family.index()).ok_or(Reason::NoListener)?;
    if listener.port == 0 {
        return Err(Reason::NoListener);
    }
    let socket = find_socket(ctx, meta, listener.address, listener.port);
    if socket.is_null() {
        return Err(Reason::ListenerGone);
    }
    assign(ctx, socket)
}

/// Looks up the socket that a packet from the sender to an address and port would reach; null if there is
/// none. The caller releases it.
#[inline(always)]
fn find_socket(ctx: &TcContext, meta: &PacketMeta, address: Address, port: u16) -> *mut bpf_sock {
    // SAFETY: a union of structures of integers; zero is valid.
    let mut tuple: bpf_sock_tuple = unsafe { mem::zeroed() };
    let size = match meta.family {
        Family::V4 => {
            tuple.__bindgen_anon_1.ipv4 = TupleV4 {
                saddr: meta.source.quarters()[3],
                daddr: address.quarters()[3],
                sport: meta.source_port.to_be(),
                dport: port.to_be(),
            };
            size_of::<TupleV4>()
        }
        Family::V6 => {
            tuple.__bindgen_anon_1.ipv6 = TupleV6 {
                saddr: meta.source.quarters(),
                daddr: address.quarters(),
                sport: meta.source_port.to_be(),
                dport: port.to_be(),
            };
            size_of::<TupleV6>()
        }
    };
    // SAFETY: the tuple is initialised and at least as long as the size given.
    unsafe {
        bpf_skc_lookup_tcp(
            ctx.as_ptr(),
            &raw mut tuple,
            size as u32,
            BPF_F_CURRENT_NETNS as i64 as u64,
            0,
        )
    }
}

/// Assigns and releases a socket.
#[inline(always)]
fn assign(ctx: &TcContext, socket: *mut bpf_sock) -> Result<Reason, Reason> {
    // SAFETY: a socket that a lookup returned; released once, and not used afterwards.
    let result = unsafe {
        let result = bpf_sk_assign(ctx.as_ptr(), socket.cast(), 0);
        bpf_sk_release(socket.cast());
        result
    };
    if result != 0 {
        return Err(Reason::AssignRefused);
    }
    ctx.set_mark(INTERCEPT_MARK);
    Ok(Reason::Intercepted)
}
