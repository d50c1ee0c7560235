//! Where a program runs, and on what.

use aya_ebpf::programs::TcContext;

/// The side of an interface.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Hook {
    /// The packet came in by the interface.
    Ingress,
    /// The packet leaves by the interface.
    Egress,
}

/// Index of the interface the program is attached to.
#[inline(always)]
pub(crate) fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid for the whole program run.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// Index of the interface the packet came in by; 0 for a packet the gateway itself sends.
#[inline(always)]
pub(crate) fn ingress_ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid for the whole program run.
    unsafe { (*ctx.skb.skb).ingress_ifindex }
}

/// The packet's mark.
#[inline(always)]
pub(crate) fn mark(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid for the whole program run.
    unsafe { (*ctx.skb.skb).mark }
}
