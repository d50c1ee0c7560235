//! TC egress of interfaces, where there are no hooks of cgroups: takes what this host sends to an intercepted destination
//! off its way, to the loopback interface.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC},
    btf_maps::lpm_trie::Key,
    helpers::generated::{
        bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_redirect, bpf_skb_change_head,
    },
    macros::classifier,
    programs::TcContext,
};
use nightgate_abi::{
    INTERCEPT_MARK,
    tunnel::{DOORS, OWN_MARK, TunnelSettings, flag},
};
use nightgate_packet::protocol::{TCP, UDP};

use crate::{
    address::Peer,
    hooks::service,
    maps,
    packet::{LINK, Packet},
};

/// The loopback interface's number in every network namespace (LOOPBACK_IFINDEX of linux/net/flow.h).
const LOOPBACK: u32 = 1;

/// What becomes of a packet.
enum Fate {
    /// It goes where it would.
    Pass,
    /// It goes to the tunneler.
    Take,
    /// It goes nowhere.
    Drop,
}

/// On interfaces with Ethernet headers.
#[classifier]
pub(crate) fn tunnel_leaving(ctx: TcContext) -> i32 {
    match fate(&ctx, LINK) {
        Fate::Pass => TC_ACT_UNSPEC,
        Fate::Take => take(&ctx),
        Fate::Drop => TC_ACT_SHOT,
    }
}

/// On interfaces without, such as those of WireGuard.
#[classifier]
pub(crate) fn tunnel_leaving_raw(ctx: TcContext) -> i32 {
    match fate(&ctx, 0) {
        Fate::Pass => TC_ACT_UNSPEC,
        Fate::Take => {
            // SAFETY: the context is this program's.
            let made = unsafe { bpf_skb_change_head(ctx.skb.skb, LINK as u32, 0) } == 0;
            // SAFETY: the context is valid for the whole program run; the kernel keeps the type in network order.
            let ether_type = unsafe { (*ctx.skb.skb).protocol } as u16;
            if made && ctx.store(LINK - 2, &ether_type, 0).is_ok() {
                take(&ctx)
            } else {
                TC_ACT_SHOT
            }
        }
        Fate::Drop => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn take(ctx: &TcContext) -> i32 {
    ctx.set_mark(INTERCEPT_MARK);
    // SAFETY: the helper has no conditions.
    unsafe { bpf_redirect(LOOPBACK, u64::from(BPF_F_INGRESS)) as i32 }
}

#[inline(always)]
fn fate(ctx: &TcContext, start: usize) -> Fate {
    let Some(settings) = maps::TUNNEL_SETTINGS.get(0) else { return Fate::Pass };
    // SAFETY: the context is valid for the whole program run.
    if unsafe { (*ctx.skb.skb).mark } == OWN_MARK {
        return Fate::Pass;
    }
    let Some(packet) = Packet::read(ctx, start) else { return Fate::Pass };
    let wanted =
        if packet.fragment { intercepts_some(&packet) } else { belongs(ctx, settings, &packet) };
    if !wanted {
        return Fate::Pass;
    }
    // SAFETY: the helper has no conditions.
    if settings.alive_until < unsafe { bpf_ktime_get_ns() } {
        return if settings.flags & flag::FAIL_CLOSED == 0 { Fate::Pass } else { Fate::Drop };
    }
    // A listener takes no parts of packets, and other hosts are not to have them either.
    if packet.fragment { Fate::Drop } else { Fate::Take }
}

/// Whether a packet belongs to the tunneler. Connections stay what they were when they began.
#[inline(always)]
fn belongs(ctx: &TcContext, settings: &TunnelSettings, packet: &Packet) -> bool {
    let ends = &packet.ends;
    if ends.protocol == TCP && !packet.begins {
        // SAFETY: only whether there is one is looked at.
        return unsafe { maps::TUNNEL_TAKEN.get(ends) }.is_some();
    }
    let wanted = Peer { address: ends.destination, port: ends.destination_port };
    let service = service(settings, wanted, ends.protocol);
    // No service has the number 0.
    // SAFETY: the reference is read at once.
    let known = match unsafe { maps::TUNNEL_TAKEN.get(ends) } {
        Some(known) => *known,
        None => 0,
    };
    if service == 0 {
        if known != 0 {
            let _gone = maps::TUNNEL_TAKEN.remove(ends);
        }
        return false;
    }
    // What the tunneler answers in the name of a destination is not for it again.
    // SAFETY: only whether there is one is looked at.
    if ends.protocol == UDP && unsafe { maps::TUNNEL_TAKEN.get(&ends.reversed()) }.is_some() {
        return false;
    }
    if known == service {
        return true;
    }
    // SAFETY: the context is this program's.
    let is_of_a_socket_here = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) } != 0;
    is_of_a_socket_here && maps::TUNNEL_TAKEN.insert(ends, &service, u64::from(BPF_ANY)).is_ok()
}

/// Whether the protocol is intercepted at the destination of a part of a packet, at some port.
#[inline(always)]
fn intercepts_some(packet: &Packet) -> bool {
    let key = Key::new(u8::BITS * 16, packet.ends.destination);
    let Some(doors) = maps::TUNNEL_DESTS.get(&key) else { return false };
    for index in 0..DOORS {
        if index as u32 >= doors.count {
            break;
        }
        let door = &doors.doors[index];
        if door.protocol == packet.ends.protocol && door.service != 0 {
            return true;
        }
    }
    false
}
