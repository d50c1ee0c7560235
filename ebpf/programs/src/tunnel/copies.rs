//! Copies of mirrored services' packets: made at the loopback interface, where they are between a program and the tunneler,
//! and at any interface, where they are between the tunneler and the server of a hosted service. At the end of the mirror's
//! pair of interfaces, they get the addresses that the program wanted.

use core::mem;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_ANY, BPF_FIB_LOOKUP_SKIP_NEIGH, BPF_FIB_LOOKUP_SRC, TC_ACT_SHOT, TC_ACT_UNSPEC,
        bpf_fib_lookup as Route,
    },
    helpers::generated::bpf_fib_lookup,
    macros::classifier,
    programs::TcContext,
};
use nightgate_abi::{
    Address, Family, FlowKey, Intercept,
    flow::Direction,
    intercept::hosted_number,
    mirror::{CopyMark, flow_hash, session_of_flow},
    tunnel::{Copied, HOSTED_MARK, Taken},
};
use nightgate_packet::{
    encapsulation::hash,
    protocol::TCP,
    rewrite::{Change, Layout, Message, Side, rewrite},
};

use crate::{
    frame::TcFrame,
    hook, maps,
    mirror::{Due, copy_due, copying::device, send_on},
    packet::{LINK, Packet},
    parts, word,
};

/// Where a program wanted to, and the number of the service that is there.
pub(crate) struct Wanted {
    pub(crate) address: Address,
    pub(crate) port: u16,
    pub(crate) service: u32,
}

/// On interfaces that lead to servers of hosted services, both ways.
#[classifier]
pub(crate) fn tunnel_serving(ctx: TcContext) -> i32 {
    copy(&ctx, |_, _| None);
    TC_ACT_UNSPEC
}

/// Copies a packet of a mirrored service that passes the interface. `wanted` tells what the program wanted that has sent it
/// to the tunneler; `None` of any other packet.
#[inline(always)]
pub(crate) fn copy(ctx: &TcContext, wanted: impl Fn(&TcContext, &Packet) -> Option<Wanted>) {
    if device() == 0 {
        return;
    }
    let Some(mut packet) = Packet::read(ctx, LINK) else { return };
    let number = hosted_number(HOSTED_MARK, hook::mark(ctx));
    if number != 0 {
        if packet.has_ports {
            serve(ctx, &packet, number);
        }
        // The interfaces below are to take it for no beginning of another flow.
        ctx.set_mark(0);
    } else if !packet.fragment
        && let Some(wanted) = wanted(ctx, &packet)
    {
        begin(ctx, &packet, &wanted);
    }
    if !packet.has_ports {
        let Some(ends) = parts::ends(&packet) else { return };
        packet.ends = ends;
    }
    if let Some(flow) = maps::TUNNEL_COPIED.get_ptr_mut(&packet.ends) {
        pass(ctx, flow, (&packet, Direction::Original));
    } else if let Some(flow) = maps::TUNNEL_COPIED.get_ptr_mut(&packet.ends.reversed()) {
        pass(ctx, flow, (&packet, Direction::Reply));
    }
}

/// Enters the flow of a packet that a program sends, if it begins one.
#[inline(always)]
fn begin(ctx: &TcContext, packet: &Packet, wanted: &Wanted) {
    let ends = &packet.ends;
    if ends.protocol == TCP && !packet.begins {
        return;
    }
    if ends.protocol != TCP {
        // SAFETY: the reference is read at once.
        let known = unsafe { maps::TUNNEL_COPIED.get(ends) };
        if known.is_some_and(|known| {
            known.shown.destination == wanted.address && known.shown.destination_port == wanted.port
        }) {
            return;
        }
    }
    // SAFETY: the reference is read at once.
    let Some(session) = unsafe { maps::TUNNEL_MIRRORED.get(&wanted.service) }.copied() else {
        // Another flow had the same ends before.
        let _gone = maps::TUNNEL_COPIED.remove(ends);
        return;
    };
    let source =
        if ends.source.is_loopback() { towards(ctx, packet, wanted.address) } else { ends.source };
    let shown =
        Taken { source, destination: wanted.address, destination_port: wanted.port, ..*ends };
    enter(ctx, ends, &shown, (wanted.service, session as u16));
}

/// Enters the flow of a packet that the tunneler sends to a server, if it begins one.
#[inline(always)]
fn serve(ctx: &TcContext, packet: &Packet, number: u16) {
    let ends = &packet.ends;
    if ends.protocol == TCP && !packet.begins {
        return;
    }
    // SAFETY: the reference is read at once.
    let hosted = unsafe { maps::TUNNEL_HOSTED.get(&u32::from(number)) }.copied();
    let hosted = hosted.unwrap_or(Intercept::NONE);
    let session = session_of_flow(hosted.mirror_session, None);
    // SAFETY: the reference is read at once.
    let known = match unsafe { maps::TUNNEL_COPIED.get(ends) } {
        Some(known) => (known.service, known.session),
        None => (0, 0),
    };
    if session == 0 {
        if known.1 != 0 {
            let _gone = maps::TUNNEL_COPIED.remove(ends);
        }
    } else if ends.protocol == TCP || known != (hosted.service, session) {
        enter(ctx, ends, ends, (hosted.service, session));
    }
}

/// Notes that a flow is one of a service that a session copies.
#[inline(always)]
fn enter(ctx: &TcContext, ends: &Taken, shown: &Taken, (service, session): (u32, u16)) {
    let one = (shown.source, shown.source_port);
    let other = (shown.destination, shown.destination_port);
    let (key, _) = FlowKey::new(ends.protocol, one, other);
    let hash = flow_hash(hash(&key));
    let ifindex = hook::ifindex(ctx);
    let flow = Copied { shown: *shown, bytes: 0, service, session, hash, ifindex, pad: 0 };
    let _full = maps::TUNNEL_COPIED.insert(ends, &flow, u64::from(BPF_ANY));
}

/// Counts a packet of a flow and copies it, at the interface where the flow has begun.
#[inline(always)]
fn pass(ctx: &TcContext, flow: *mut Copied, (packet, direction): (&Packet, Direction)) {
    // SAFETY: the slot stays mapped while the program runs. Another CPU may give it to another flow; the copy is then one of
    // a flow that is mirrored as well.
    let (mark, hash, bytes) = unsafe {
        if (*flow).ifindex != hook::ifindex(ctx) {
            return;
        }
        if packet.fragment {
            let Taken { source, destination, .. } = packet.ends;
            let server = if direction == Direction::Original { destination } else { source };
            // Fragments keep their addresses, so what programs say to the tunneler cannot be copied in them.
            if server != (*flow).shown.destination {
                return;
            }
            if packet.has_ports {
                parts::remember(packet);
            }
        }
        let mark = CopyMark::new((*flow).session, direction, (*flow).service);
        let length = ctx.len().into();
        (mark, (*flow).hash, word::add(&raw mut (*flow).bytes, length) + length)
    };
    let _counted = copy_due(ctx, &Due { mark, hash, bytes });
}

/// The address that this host uses towards another, by its routes (Linux 6.7); the one that the packet has if there is no
/// route, or no such answer.
#[inline(always)]
fn towards(ctx: &TcContext, packet: &Packet, destination: Address) -> Address {
    // SAFETY: a structure of integers and unions of integers; zero is valid.
    let mut route: Route = unsafe { mem::zeroed() };
    // The interface is one that forwards, which the lookup asks for.
    route.ifindex = device();
    // Otherwise the kernel asks whether this packet fits the way, which it is not going to take.
    route.__bindgen_anon_1.tot_len = 1;
    route.family = match packet.family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    match packet.family {
        Family::V4 => route.__bindgen_anon_4.ipv4_dst = destination.quarters()[3],
        Family::V6 => route.__bindgen_anon_4.ipv6_dst = destination.quarters(),
    }
    let (size, flags) = (size_of::<Route>() as i32, BPF_FIB_LOOKUP_SRC | BPF_FIB_LOOKUP_SKIP_NEIGH);
    // SAFETY: the parameters are initialised and of the size given.
    let answer = unsafe { bpf_fib_lookup(ctx.as_ptr(), &raw mut route, size, flags) };
    if answer != 0 {
        return packet.ends.source;
    }
    // SAFETY: both unions hold integers, initialised above or by the lookup.
    unsafe {
        match packet.family {
            Family::V4 => Address::from_v4(route.__bindgen_anon_3.ipv4_src.to_ne_bytes()),
            Family::V6 => {
                let [a, b, c, d] = route.__bindgen_anon_3.ipv6_src.map(u64::from);
                Address::from_halves([a | b << 32, c | d << 32])
            }
        }
    }
}

#[classifier]
pub(crate) fn tunnel_mirror(ctx: TcContext) -> i32 {
    match show(&ctx) {
        Some(()) => send_on(&ctx),
        None => TC_ACT_SHOT,
    }
}

/// Gives a copy the ends that its program knows.
#[inline(always)]
fn show(ctx: &TcContext) -> Option<()> {
    let packet = Packet::read(ctx, LINK)?;
    if packet.fragment {
        // Of what is hosted: it is shown as it is.
        return Some(());
    }
    let seen = packet.ends;
    let direction = CopyMark(hook::mark(ctx)).direction();
    let shown = match direction {
        // SAFETY: the reference is read at once.
        Direction::Original => unsafe { maps::TUNNEL_COPIED.get(&seen) }?.shown,
        // SAFETY: the reference is read at once.
        Direction::Reply => unsafe { maps::TUNNEL_COPIED.get(&seen.reversed()) }?.shown.reversed(),
    };
    let at = Layout {
        family: packet.family,
        network: LINK,
        transport: packet.transport,
        protocol: seen.protocol,
        message: Message::Headed,
    };
    let sides = [
        (Side::Source, (seen.source, seen.source_port), (shown.source, shown.source_port)),
        (
            Side::Destination,
            (seen.destination, seen.destination_port),
            (shown.destination, shown.destination_port),
        ),
    ];
    for (side, old, new) in sides {
        rewrite(&TcFrame(ctx), &at, &Change { side, old, new }).ok()?;
    }
    Some(())
}
