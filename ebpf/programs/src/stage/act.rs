//! What happens to an accepted packet: it goes its way, or to the intercept listener.

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_map_lookup_elem, bpf_sk_assign, bpf_sk_release},
    programs::TcContext,
};
use nightgate_abi::{
    INTERCEPT_MARK, Reason, ZoneId,
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

/// Has the stack deliver a packet to the gateway's process, by the mark. A whole datagram gets its socket here. The stack finds the
/// connection of a segment by itself; for what begins one, and for datagrams in fragments, it asks [`crate::sk_intercept`].
///
/// # Errors
/// There is no listener.
#[inline(always)]
fn hand_to_listener(ctx: &TcContext, meta: &PacketMeta) -> Result<Reason, Reason> {
    let transport = match meta.protocol {
        protocol::TCP => Transport::Tcp,
        protocol::UDP => Transport::Udp,
        _ => return Err(Reason::InterceptProtocol),
    };
    if meta.fragment.part != Part::Whole && meta.opens() {
        return Err(Reason::InterceptFragment);
    }
    let listener = find_listener(meta, transport)?;
    // SAFETY: a socket that the lookup returned; released once, and not used afterwards.
    let result = unsafe {
        let result = match transport {
            Transport::Udp if meta.fragment.part == Part::Whole => {
                bpf_sk_assign(ctx.as_ptr(), listener.cast(), 0)
            }
            Transport::Tcp | Transport::Udp => 0,
        };
        bpf_sk_release(listener.cast());
        result
    };
    if result != 0 {
        return Err(Reason::AssignRefused);
    }
    ctx.set_mark(INTERCEPT_MARK);
    Ok(Reason::Intercepted)
}

/// The socket of the listener for a packet's family. The caller releases it.
///
/// # Errors
/// There is none.
#[inline(always)]
fn find_listener(meta: &PacketMeta, transport: Transport) -> Result<*mut bpf_sock, Reason> {
    let index = listener::index(transport, meta.family);
    let listener = maps::LISTENERS.get(index).ok_or(Reason::NoListener)?;
    if listener.port == 0 {
        return Err(Reason::NoListener);
    }
    let sockets = (&raw const maps::LISTENING_SOCKETS).cast_mut().cast();
    // SAFETY: a map of sockets, and a key of its kind; a socket that it gives has a reference, which the caller ends.
    let socket: *mut bpf_sock =
        unsafe { bpf_map_lookup_elem(sockets, (&raw const index).cast()) }.cast();
    if socket.is_null() { Err(Reason::ListenerGone) } else { Ok(socket) }
}
