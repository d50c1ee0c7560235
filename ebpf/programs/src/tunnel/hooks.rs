//! Hooks of a cgroup: connect(2), sendmsg(2), recvmsg(2) and getpeername(2) of its programs.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, BPF_NOEXIST},
    btf_maps::lpm_trie::Key,
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
        bpf_get_current_uid_gid, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_ns,
    },
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use nightgate_abi::{
    Family,
    tunnel::{
        DNS_PORT, DNS_SERVICE, DOORS, Origin, OriginKey, SLOTS, TunnelSettings, flag, listener,
    },
};
use nightgate_packet::protocol::{TCP, UDP};

use crate::{
    address::{Peer, loopback, protocol},
    maps,
};

/// What a hook answers: the call goes on.
const ALLOW: i32 = 1;
/// What a hook answers: the call fails with EPERM.
const DENY: i32 = 0;

/// How a socket came to its peer.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Call {
    Connect,
    Send,
}

#[cgroup_sock_addr(connect4)]
pub(crate) fn tunnel_connect4(ctx: SockAddrContext) -> i32 {
    turn(&ctx, Family::V4, Call::Connect)
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn tunnel_connect6(ctx: SockAddrContext) -> i32 {
    turn(&ctx, Family::V6, Call::Connect)
}

#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn tunnel_send4(ctx: SockAddrContext) -> i32 {
    turn(&ctx, Family::V4, Call::Send)
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn tunnel_send6(ctx: SockAddrContext) -> i32 {
    turn(&ctx, Family::V6, Call::Send)
}

#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn tunnel_receive4(ctx: SockAddrContext) -> i32 {
    turn_back(&ctx, Family::V4)
}

#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn tunnel_receive6(ctx: SockAddrContext) -> i32 {
    turn_back(&ctx, Family::V6)
}

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn tunnel_peer4(ctx: SockAddrContext) -> i32 {
    turn_back(&ctx, Family::V4)
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn tunnel_peer6(ctx: SockAddrContext) -> i32 {
    turn_back(&ctx, Family::V6)
}

/// Turns a call for an intercepted destination to the tunneler.
#[inline(always)]
fn turn(ctx: &SockAddrContext, family: Family, call: Call) -> i32 {
    let Some(settings) = maps::TUNNEL_SETTINGS.get(0) else { return ALLOW };
    let Some(protocol) = narrow(protocol(ctx)) else { return ALLOW };
    // SAFETY: the helper has no conditions.
    let process = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    // SAFETY: the context is this hook's.
    let namespace = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    if process == settings.process || namespace != settings.namespace {
        return ALLOW;
    }
    let wanted = Peer::read(ctx, family);
    let service = service(settings, wanted, protocol);
    if service == 0 {
        return ALLOW;
    }
    // SAFETY: the helper has no conditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if settings.alive_until < now {
        return if settings.flags & flag::FAIL_CLOSED == 0 { ALLOW } else { DENY };
    }
    // SAFETY: the context is this hook's.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let origin = origin((wanted, protocol, service), (process, now), call);
    let port = if protocol == TCP {
        let key = OriginKey { cookie, slot: 0, pad: 0 };
        if maps::TUNNEL_ORIGINS.insert(&key, &origin, u64::from(BPF_ANY)).is_err() {
            return DENY;
        }
        settings.tcp_port
    } else {
        // Without a slot, datagrams for one destination would reach another.
        let Some(slot) = reserve(cookie, &origin) else { return DENY };
        settings.udp_ports[(slot & (SLOTS - 1)) as usize]
    };
    Peer { address: loopback(wanted.address), port }.write(ctx, family);
    ALLOW
}

/// TCP or UDP, as eight bits.
#[inline(always)]
fn narrow(protocol: u32) -> Option<u8> {
    match protocol {
        6 => Some(TCP),
        17 => Some(UDP),
        _ => None,
    }
}

/// Number of the service that a destination is intercepted for; 0 for none.
#[inline(always)]
pub(crate) fn service(settings: &TunnelSettings, wanted: Peer, protocol: u8) -> u32 {
    let whole = u8::BITS * 16;
    if let Some(doors) = maps::TUNNEL_DESTS.get(&Key::new(whole, wanted.address)) {
        for index in 0..DOORS {
            if index as u32 >= doors.count {
                break;
            }
            let door = &doors.doors[index];
            if door.protocol == protocol && door.low <= wanted.port && wanted.port <= door.high {
                return door.service;
            }
        }
    }
    let is_dns = wanted.port == DNS_PORT && !wanted.address.is_loopback();
    if is_dns && settings.flags & flag::DNS != 0 { DNS_SERVICE } else { 0 }
}

#[inline(always)]
fn origin(
    (wanted, protocol, service): (Peer, u8, u32),
    (process, now): (u32, u64),
    call: Call,
) -> Origin {
    // SAFETY: the helpers have no conditions.
    let (user, cgroup) = unsafe { (bpf_get_current_uid_gid(), bpf_get_current_cgroup_id()) };
    let mut origin = Origin {
        destination: wanted.address,
        cgroup,
        at: now,
        service,
        process,
        user: user as u32,
        group: (user >> 32) as u32,
        port: wanted.port,
        protocol,
        connected: u8::from(call == Call::Connect),
        pad: 0,
        command: [0; 16],
    };
    // SAFETY: the buffer has the length that is given.
    unsafe { bpf_get_current_comm((&raw mut origin.command).cast(), 16) };
    origin
}

/// The slot of a UDP socket's destination: the one that it has, or a free one. `None` if there is none.
#[inline(always)]
fn reserve(cookie: u64, origin: &Origin) -> Option<u32> {
    for slot in 0..SLOTS {
        let key = OriginKey { cookie, slot, pad: 0 };
        // SAFETY: the reference is read at once; an entry that is exchanged meanwhile is of the same destination,
        // for entries are only added where there are none.
        match unsafe { maps::TUNNEL_ORIGINS.get(&key) } {
            Some(known) => {
                if known.destination == origin.destination && known.port == origin.port {
                    return Some(slot);
                }
            }
            None => {
                let flags = u64::from(BPF_NOEXIST);
                if maps::TUNNEL_ORIGINS.insert(&key, origin, flags).is_ok() {
                    return Some(slot);
                }
            }
        }
    }
    None
}

/// Shows a program the address that it wanted instead of the tunneler's.
#[inline(always)]
fn turn_back(ctx: &SockAddrContext, family: Family) -> i32 {
    let found = Peer::read(ctx, family);
    if !found.address.is_loopback() {
        return ALLOW;
    }
    let Some(protocol) = narrow(protocol(ctx)) else { return ALLOW };
    // SAFETY: the reference is read at once.
    let slot = unsafe { maps::TUNNEL_PORTS.get(&listener(protocol, found.port)) };
    let Some(slot) = slot.copied() else { return ALLOW };
    // SAFETY: the context is this hook's.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let key = OriginKey { cookie, slot, pad: 0 };
    // SAFETY: the reference is read at once.
    if let Some(origin) = unsafe { maps::TUNNEL_ORIGINS.get(&key) } {
        Peer { address: origin.destination, port: origin.port }.write(ctx, family);
    }
    ALLOW
}
