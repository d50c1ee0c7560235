//! TC ingress of the loopback interface: hands packets that were taken ([`crate::leaving`]) to the tunneler's sockets,
//! whatever their destination.

use core::mem;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_F_CURRENT_NETNS, BPF_TCP_LISTEN, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_sock, bpf_sock_tuple,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as TupleV4,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as TupleV6,
    },
    helpers::generated::{
        bpf_sk_assign, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_change_type, bpf_skc_lookup_tcp,
    },
    macros::classifier,
    programs::TcContext,
};
use nightgate_abi::{Address, Family, INTERCEPT_MARK, tunnel::Taken as Ends};
use nightgate_packet::protocol::TCP;

use crate::{
    address::loopback,
    copies::{self, Wanted},
    maps,
    packet::{LINK, Packet},
};

/// For this host (PACKET_HOST of linux/if_packet.h).
const FOR_THIS_HOST: u32 = 0;

#[classifier]
pub(crate) fn tunnel_arriving(ctx: TcContext) -> i32 {
    // SAFETY: the context is valid for the whole program run.
    if unsafe { (*ctx.skb.skb).mark } == INTERCEPT_MARK && hand_over(&ctx).is_none() {
        return TC_ACT_SHOT;
    }
    copies::copy(&ctx, as_it_is);
    TC_ACT_UNSPEC
}

/// What the program wanted that has sent a packet that was taken.
#[inline(always)]
fn as_it_is(_: &TcContext, packet: &Packet) -> Option<Wanted> {
    let Ends { destination, destination_port, .. } = packet.ends;
    // SAFETY: the reference is read at once.
    let service = unsafe { maps::TUNNEL_TAKEN.get(&packet.ends) }.copied()?;
    Some(Wanted { address: destination, port: destination_port, service })
}

/// `None` if nobody takes it.
#[inline(always)]
fn hand_over(ctx: &TcContext) -> Option<()> {
    let packet = Packet::read(ctx, LINK)?;
    let settings = maps::TUNNEL_SETTINGS.get(0)?;
    // Its link address is that of another host.
    // SAFETY: the context is this program's.
    unsafe { bpf_skb_change_type(ctx.skb.skb, FOR_THIS_HOST) };
    let own = loopback(packet.ends.destination);
    if packet.ends.protocol != TCP {
        return assign(ctx, find(ctx, &packet, own, settings.udp_ports[0]));
    }
    let ends = &packet.ends;
    let connection = find(ctx, &packet, ends.destination, ends.destination_port);
    if !connection.is_null() {
        // SAFETY: a socket that the lookup returned and that has not been released.
        if unsafe { (*connection).state } != BPF_TCP_LISTEN {
            return assign(ctx, connection);
        }
        // SAFETY: as above; it is not used afterwards.
        unsafe { bpf_sk_release(connection.cast()) };
    }
    assign(ctx, find(ctx, &packet, own, settings.tcp_port))
}

/// The socket that a packet from the sender to an address and port would reach; null if there is none. The caller
/// releases it.
#[inline(always)]
fn find(ctx: &TcContext, packet: &Packet, address: Address, port: u16) -> *mut bpf_sock {
    // SAFETY: a union of structures of integers; zero is valid.
    let mut tuple: bpf_sock_tuple = unsafe { mem::zeroed() };
    let (source, from) = (packet.ends.source, packet.ends.source_port);
    let size = match packet.family {
        Family::V4 => {
            tuple.__bindgen_anon_1.ipv4 = TupleV4 {
                saddr: source.quarters()[3],
                daddr: address.quarters()[3],
                sport: from.to_be(),
                dport: port.to_be(),
            };
            size_of::<TupleV4>()
        }
        Family::V6 => {
            tuple.__bindgen_anon_1.ipv6 = TupleV6 {
                saddr: source.quarters(),
                daddr: address.quarters(),
                sport: from.to_be(),
                dport: port.to_be(),
            };
            size_of::<TupleV6>()
        }
    };
    let (skb, tuple, size) = (ctx.as_ptr(), &raw mut tuple, size as u32);
    let namespace = BPF_F_CURRENT_NETNS as i64 as u64;
    // SAFETY: the tuple is initialised and at least as long as the size given.
    unsafe {
        if packet.ends.protocol == TCP {
            bpf_skc_lookup_tcp(skb, tuple, size, namespace, 0)
        } else {
            bpf_sk_lookup_udp(skb, tuple, size, namespace, 0)
        }
    }
}

/// Assigns and releases a socket; `None` if it is none, or cannot be assigned.
#[inline(always)]
fn assign(ctx: &TcContext, socket: *mut bpf_sock) -> Option<()> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: a socket that a lookup returned; released once, and not used afterwards.
    let result = unsafe {
        let result = bpf_sk_assign(ctx.as_ptr(), socket.cast(), 0);
        bpf_sk_release(socket.cast());
        result
    };
    (result == 0).then_some(())
}
