//! Frames with a VLAN tag: their VLAN's device judges them, where they have no tag.

use aya_ebpf::programs::TcContext;
use nightgate_abi::{Reason, vlan::VlanKey};

use crate::{hook, maps};

/// Whether a frame is untagged, or tagged for no VLAN (identifier 0 of IEEE 802.1Q: a priority only). The tag is
/// beside the frame: the kernel takes it out before this program runs, and puts it in afterwards.
#[inline(always)]
pub(crate) fn is_untagged(ctx: &TcContext) -> bool {
    hook::vlan_present(ctx) == 0 || hook::vlan_tci(ctx) & 0xfff == 0
}

/// Lets a tagged frame pass to or from the device of its VLAN, if the firewall is attached to that one.
///
/// # Errors
/// It is not, or there is none.
#[inline(always)]
pub(crate) fn pass(ctx: &TcContext) -> Result<Reason, Reason> {
    let key = VlanKey::new(hook::ifindex(ctx), hook::vlan_tci(ctx) as u16);
    // SAFETY: only whether there is an entry counts.
    match unsafe { maps::VLANS.get(&key) } {
        Some(_) => Ok(Reason::Vlan),
        None => Err(Reason::UnknownVlan),
    }
}
