//! What happens to an accepted packet: it goes its way, or to the intercept listener.

use core::mem;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        __sk_buff, BPF_F_CURRENT_NETNS, BPF_TCP_LISTEN, bpf_sock, bpf_sock_tuple,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as TupleV4,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as TupleV6,
    },
    helpers::generated::{bpf_sk_assign, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
    programs::TcContext,
};
use nightgate_abi::{
    Address, Family, INTERCEPT_MARK, Reason, ZoneId,
    flow::Direction,
    listener::{self, Transport},
};
use nightgate_packet::{PacketMeta, Part, protocol};

use crate::{
    hook::Hook,
    maps,
    stage::{
        Work, echo, lend,
        track::{self, Passage, Place},
    },
};

/// Lets an accepted packet go its way.
///
/// # Errors
/// An intercepted packet cannot be handed to the listener.
#[inline(always)]
pub(crate) fn act(
    ctx: &TcContext,
    work: &mut Work,
    place: &Place,
    passage: &Passage,
) -> Result<Reason, Reason> {
    let way = way(place.hook, [passage.from, passage.to], passage.direction);
    if way != Reason::Intercepted {
        deliver_to_transparent(ctx, way, passage);
        return Ok(way);
    }
    if work.meta.is_icmp() {
        return echo::turn(ctx, work);
    }
    lend(work);
    if nightgate_hand_over(ctx.skb.skb) == 0 { Ok(way) } else { Err(work.undelivered) }
}

/// Has policy routing deliver what answers a connection that the gateway opened for a service it hosts: its source may be
/// one that the dialer asked for, and no address of this host.
#[inline(always)]
pub(crate) fn deliver_to_transparent(ctx: &TcContext, way: Reason, passage: &Passage) {
    if way == Reason::Local && passage.is_hosted {
        ctx.set_mark(INTERCEPT_MARK);
    }
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

/// Hands the intercepted packet in the work space to the gateway's process. A global function, as `nightgate_classify`
/// is. Returns 0 unless the packet is refused, for the reason in [`Work::undelivered`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_hand_over(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else { return 1 };
    // SAFETY: the slot belongs to this CPU; `act` has lent its reference to it.
    let work = unsafe { &mut *work };
    match hand_to_listener(&TcContext::new(skb), &work.meta) {
        Ok(_) => 0,
        Err(reason) => {
            work.undelivered = reason;
            1
        }
    }
}

/// Hands an intercepted packet to the gateway's process, and marks it so that policy routing delivers it locally.
#[inline(always)]
fn hand_to_listener(ctx: &TcContext, meta: &PacketMeta) -> Result<Reason, Reason> {
    match meta.protocol {
        protocol::TCP => hand_over_segment(ctx, meta),
        protocol::UDP => hand_over_datagram(ctx, meta),
        _ => Err(Reason::InterceptProtocol),
    }
}

/// Assigns a datagram to the listener. A fragment is delivered by its mark alone: the stack puts the datagram together,
/// and [`crate::sk_intercept`] says then whose it is.
#[inline(always)]
fn hand_over_datagram(ctx: &TcContext, meta: &PacketMeta) -> Result<Reason, Reason> {
    let listener = find_listener(ctx, meta, Transport::Udp)?;
    if meta.fragment.part == Part::Whole {
        return assign(ctx, listener);
    }
    // SAFETY: a socket that the lookup returned; it is not used afterwards.
    unsafe { bpf_sk_release(listener.cast()) };
    ctx.set_mark(INTERCEPT_MARK);
    Ok(Reason::Intercepted)
}

/// Assigns a TCP segment to the connection it belongs to, or else to the listener. A fragment is delivered by its
/// mark alone: the stack puts the packet together and then finds the connection by itself, but no listener.
#[inline(always)]
fn hand_over_segment(ctx: &TcContext, meta: &PacketMeta) -> Result<Reason, Reason> {
    let connection =
        find_socket(ctx, meta, Transport::Tcp, meta.destination, meta.destination_port);
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
    assign(ctx, find_listener(ctx, meta, Transport::Tcp)?)
}

/// The socket of the listener for a packet's family. The caller releases it.
///
/// # Errors
/// There is none.
#[inline(always)]
fn find_listener(
    ctx: &TcContext,
    meta: &PacketMeta,
    transport: Transport,
) -> Result<*mut bpf_sock, Reason> {
    let index = listener::index(transport, meta.family);
    let listener = maps::LISTENERS.get(index).ok_or(Reason::NoListener)?;
    if listener.port == 0 {
        return Err(Reason::NoListener);
    }
    let socket = find_socket(ctx, meta, transport, listener.address, listener.port);
    if socket.is_null() { Err(Reason::ListenerGone) } else { Ok(socket) }
}

/// Looks up the socket that a packet from the sender to an address and port would reach; null if there is
/// none. The caller releases it.
#[inline(always)]
fn find_socket(
    ctx: &TcContext,
    meta: &PacketMeta,
    transport: Transport,
    address: Address,
    port: u16,
) -> *mut bpf_sock {
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
    let (ctx, tuple, size) = (ctx.as_ptr(), &raw mut tuple, size as u32);
    let namespace = BPF_F_CURRENT_NETNS as i64 as u64;
    // SAFETY: the tuple is initialised and at least as long as the size given.
    unsafe {
        match transport {
            Transport::Tcp => bpf_skc_lookup_tcp(ctx, tuple, size, namespace, 0),
            Transport::Udp => bpf_sk_lookup_udp(ctx, tuple, size, namespace, 0),
        }
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
