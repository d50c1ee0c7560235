//! Changing a packet's bytes.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM},
    helpers::generated::{bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_store_bytes},
};
use nightgate_abi::{Family, Reason};
use nightgate_packet::{
    checksum::Difference,
    rewrite::{Checksum, Covered, Rewritable, Zero},
};

use crate::frame::TcFrame;

/// Flag of `bpf_l4_csum_replace` (linux/bpf.h): addresses are IPv6, which the sum that hardware has computed over
/// the packet already reflects. Linux 6.16 and stable kernels before; others refuse it, and correct that sum in
/// software.
const IPV6: u64 = 1 << 7;

impl Rewritable for TcFrame<'_> {
    #[inline(always)]
    fn replace<const N: usize>(&self, offset: usize, bytes: [u8; N]) -> Result<(), Reason> {
        store(self, offset, &bytes, 0)
    }

    #[inline(always)]
    fn replace_unsummed<const N: usize>(
        &self,
        offset: usize,
        bytes: [u8; N],
    ) -> Result<(), Reason> {
        store(self, offset, &bytes, BPF_F_RECOMPUTE_CSUM.into())
    }

    #[inline(always)]
    fn adjust_header(&self, offset: usize, change: Difference) -> Result<(), Reason> {
        // SAFETY: the context is valid; the helper checks the offset against the packet.
        let result = unsafe {
            bpf_l3_csum_replace(self.0.skb.skb, offset as u32, 0, change.sum().into(), 0)
        };
        written(result)
    }

    #[inline(always)]
    fn adjust(&self, checksum: Checksum, change: Difference, of: Covered) -> Result<(), Reason> {
        let zero = match checksum.zero {
            Zero::Sum => 0,
            Zero::Absent => u64::from(BPF_F_MARK_MANGLED_0),
        };
        let (flags, optional) = match of {
            Covered::Message => (zero, 0),
            Covered::PseudoHeader(Family::V4) => (zero | u64::from(BPF_F_PSEUDO_HDR), 0),
            Covered::PseudoHeader(Family::V6) => (zero | u64::from(BPF_F_PSEUDO_HDR), IPV6),
        };
        let replace = |flags| {
            let (at, sum) = (checksum.offset as u32, change.sum().into());
            // SAFETY: the context is valid; the helper checks the offset against the packet.
            unsafe { bpf_l4_csum_replace(self.0.skb.skb, at, 0, sum, flags) }
        };
        if optional != 0 && replace(flags | optional) == 0 {
            return Ok(());
        }
        written(replace(flags))
    }
}

#[inline(always)]
fn store<const N: usize>(
    frame: &TcFrame<'_>,
    offset: usize,
    bytes: &[u8; N],
    flags: u64,
) -> Result<(), Reason> {
    let (from, length) = ((&raw const *bytes).cast(), N as u32);
    // SAFETY: the source is N bytes long; the helper checks the offset against the packet.
    written(unsafe { bpf_skb_store_bytes(frame.0.skb.skb, offset as u32, from, length, flags) })
}

#[inline(always)]
fn written(result: i64) -> Result<(), Reason> {
    if result == 0 { Ok(()) } else { Err(Reason::NatRewrite) }
}
