//! Reading a packet's headers.

use core::mem::MaybeUninit;

use aya_ebpf::{EbpfContext, helpers::generated::bpf_skb_load_bytes, programs::TcContext};
use nightgate_packet::{Frame, HEADERS_MAX};

/// The packet of a TC program. Reads go straight to the packet's linear part, and through a helper where
/// the headers are not linear, so nothing has to be copied or made writable for the rare case.
pub(crate) struct TcFrame<'a>(pub(crate) &'a TcContext);

impl Frame for TcFrame<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        self.0.len() as usize
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // Headers start no later than HEADERS_MAX and their fields follow within 64 bytes; the verifier
        // needs to see the bound.
        if offset > HEADERS_MAX + 64 {
            return None;
        }
        let start = self.0.data() + offset;
        if start + N <= self.0.data_end() {
            // SAFETY: the comparison with data_end proves that N bytes from start are in the packet, and a
            // byte array has no alignment.
            return Some(unsafe { *(start as *const [u8; N]) });
        }
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the destination is N bytes long; the helper checks the offset against the packet.
        let result = unsafe {
            bpf_skb_load_bytes(self.0.as_ptr(), offset as u32, bytes.as_mut_ptr().cast(), N as u32)
        };
        if result == 0 {
            // SAFETY: the helper succeeded and filled all N bytes.
            Some(unsafe { bytes.assume_init() })
        } else {
            None
        }
    }
}
