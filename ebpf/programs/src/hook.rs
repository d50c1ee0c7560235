//! Where a program runs, and on what.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
pub(crate) use nightgate_abi::Hook;

/// Reads a field of 32 bits of a packet's context. One instruction: the compiler would merge reads of two fields into
/// one at an offset that it computes, which the verifier refuses.
macro_rules! field {
    ($ctx:expr, $field:ident) => {{
        let value: u32;
        // SAFETY: the context is valid for the whole program run.
        unsafe {
            core::arch::asm!(
                "{value} = *(u32 *)({context} + {offset})",
                value = lateout(wreg) value,
                context = in(reg) $ctx.skb.skb,
                offset = const core::mem::offset_of!(__sk_buff, $field),
                options(nostack, pure, readonly),
            )
        };
        value
    }};
}

/// Index of the interface the program is attached to.
#[inline(always)]
pub(crate) fn ifindex(ctx: &TcContext) -> u32 {
    field!(ctx, ifindex)
}

/// Index of the interface the packet came in by; 0 for a packet the gateway itself sends.
#[inline(always)]
pub(crate) fn ingress_ifindex(ctx: &TcContext) -> u32 {
    field!(ctx, ingress_ifindex)
}

/// The packet's mark.
#[inline(always)]
pub(crate) fn mark(ctx: &TcContext) -> u32 {
    field!(ctx, mark)
}

/// To whom the packet's link address belongs: `PACKET_*` of linux/if_packet.h.
#[inline(always)]
pub(crate) fn packet_type(ctx: &TcContext) -> u32 {
    field!(ctx, pkt_type)
}

/// EtherType, in network order.
#[inline(always)]
pub(crate) fn protocol(ctx: &TcContext) -> u32 {
    field!(ctx, protocol)
}

/// 1 if the frame has a VLAN tag that the kernel keeps beside it, else 0.
#[inline(always)]
pub(crate) fn vlan_present(ctx: &TcContext) -> u32 {
    field!(ctx, vlan_present)
}

/// Control information of that tag.
#[inline(always)]
pub(crate) fn vlan_tci(ctx: &TcContext) -> u32 {
    field!(ctx, vlan_tci)
}

/// How many frames the packet is on a wire.
#[inline(always)]
pub(crate) fn segments(ctx: &TcContext) -> u32 {
    let segments = field!(ctx, gso_segs);
    if segments == 0 { 1 } else { segments }
}

/// Whether it is more than one frame on a wire.
#[inline(always)]
pub(crate) fn is_segment(ctx: &TcContext) -> bool {
    field!(ctx, gso_size) != 0
}

/// The packet's traffic control index: 16 bits that a packet keeps on its way through the kernel.
#[inline(always)]
pub(crate) fn tc_index(ctx: &TcContext) -> u32 {
    field!(ctx, tc_index)
}

/// Sets it.
#[inline(always)]
pub(crate) fn set_tc_index(ctx: &TcContext, index: u32) {
    // SAFETY: the context is valid for the whole program run, and the field may be written (Linux 4.1).
    unsafe { (*ctx.skb.skb).tc_index = index };
}
