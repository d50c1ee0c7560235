//! Where the routing table sends a packet.

use core::mem;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NOT_FWDED,
        BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LOOKUP_SKIP_NEIGH, bpf_fib_lookup as Parameters,
    },
    helpers::generated::{bpf_check_mtu, bpf_fib_lookup},
    programs::TcContext,
};
use nightgate_abi::{Active, Address, Family, Reason, ZoneId, rule::Subject};
use nightgate_packet::protocol;

use crate::stage::zone;

/// Address family of IPv4 on Linux.
const AF_INET: u8 = 2;
/// Address family of IPv6 on Linux.
const AF_INET6: u8 = 10;

/// The zone a packet that comes in by an interface goes to: that of the interface it will be forwarded to,
/// or `local` if it will not be forwarded.
///
/// The kernel answers alike for its own addresses and for destinations without a route. Neither leaves the
/// gateway; should a route appear later, the packet is judged again where it leaves. Multicast and broadcast are
/// for the gateway: the routing table would send them the default way, which the stack does not.
///
/// A function of its own in the object for the sake of the stack.
#[inline(never)]
pub(crate) fn destination_zone(
    ctx: &TcContext,
    subject: &Subject,
    ifindex: u32,
    active: Active,
) -> Result<ZoneId, Reason> {
    if is_for_many(subject.destination) {
        return Ok(ZoneId::LOCAL);
    }
    let mut parameters = describe(subject, ifindex);
    match look_up(ctx, &mut parameters) {
        // The stack answers a packet that is too big for the way out.
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_FRAG_NEEDED => {
            zone::of_interface(parameters.ifindex, active).ok_or(Reason::UnknownZone)
        }
        BPF_FIB_LKUP_RET_NOT_FWDED | BPF_FIB_LKUP_RET_FWD_DISABLED => Ok(ZoneId::LOCAL),
        _ => Err(Reason::Unroutable),
    }
}

/// The longest packet that the route takes which a packet that comes in by an interface goes, in bytes; that of the
/// interface it leaves by if there is no such route.
#[inline(always)]
pub(crate) fn mtu(ctx: &TcContext, subject: &Subject, ifindex: u32, leaves_by: u32) -> u32 {
    let mut parameters = describe(subject, ifindex);
    // With a length, the route's own MTU is looked at (Linux 5.12); the least, so that it is not exceeded.
    parameters.__bindgen_anon_1.tot_len = 1;
    if look_up(ctx, &mut parameters) == BPF_FIB_LKUP_RET_SUCCESS {
        // SAFETY: the helper has written it; every value of an integer is valid.
        return u32::from(unsafe { parameters.__bindgen_anon_1.mtu_result });
    }
    let mut mtu = 0;
    // SAFETY: the context is valid, and the helper writes 32 bits (Linux 5.12).
    unsafe { bpf_check_mtu(ctx.as_ptr(), leaves_by, &raw mut mtu, 0, 0) };
    mtu
}

/// What the routing table is asked about a packet that comes in by an interface.
#[inline(always)]
fn describe(subject: &Subject, ifindex: u32) -> Parameters {
    // SAFETY: a structure of integers and unions of integers; zero is valid.
    let mut parameters: Parameters = unsafe { mem::zeroed() };
    parameters.l4_protocol = subject.protocol;
    if subject.protocol == protocol::TCP || subject.protocol == protocol::UDP {
        parameters.sport = subject.source_port.to_be();
        parameters.dport = subject.destination_port.to_be();
    }
    parameters.ifindex = ifindex;
    match subject.source.family() {
        Family::V4 => {
            parameters.family = AF_INET;
            parameters.__bindgen_anon_3.ipv4_src = subject.source.quarters()[3];
            parameters.__bindgen_anon_4.ipv4_dst = subject.destination.quarters()[3];
        }
        Family::V6 => {
            parameters.family = AF_INET6;
            parameters.__bindgen_anon_3.ipv6_src = subject.source.quarters();
            parameters.__bindgen_anon_4.ipv6_dst = subject.destination.quarters();
        }
    }
    parameters
}

#[inline(always)]
fn look_up(ctx: &TcContext, parameters: &mut Parameters) -> u32 {
    // SAFETY: the parameters are initialised and of the size given.
    let answer = unsafe {
        bpf_fib_lookup(
            ctx.as_ptr(),
            &raw mut *parameters,
            size_of::<Parameters>() as i32,
            BPF_FIB_LOOKUP_SKIP_NEIGH,
        )
    };
    answer as u32
}

/// Whether an IPv4 address is 255.255.255.255 or of 224.0.0.0/4. Of IPv6's, the routing table says that they are
/// no unicast.
#[inline(always)]
fn is_for_many(address: Address) -> bool {
    let [first, ..] = address.v4_octets();
    address.family() == Family::V4 && (first >> 4 == 14 || address.quarters()[3] == u32::MAX)
}
