//! Datagrams to servers of hosted services, and their answers, that come in fragments: the first one has the ports, and the others go
//! its way.

use aya_ebpf::bindings::BPF_ANY;
use nightgate_abi::{Address, tunnel::Taken};

use crate::{maps, packet::Packet};

/// Key of what is known of a packet that comes in fragments.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PartKey {
    source: Address,
    destination: Address,
    identification: u32,
    protocol: u8,
    pad: [u8; 3],
}

impl PartKey {
    #[inline(always)]
    fn of(packet: &Packet) -> Self {
        let Taken { source, destination, protocol, .. } = packet.ends;
        let identification = packet.identification;
        Self { source, destination, identification, protocol, pad: [0; 3] }
    }
}

/// Notes the ends of the packet whose first fragment this is.
#[inline(always)]
pub(crate) fn remember(packet: &Packet) {
    let _full = maps::TUNNEL_PARTS.insert(&PartKey::of(packet), &packet.ends, u64::from(BPF_ANY));
}

/// The ends of the packet that this is a later fragment of, if that is one whose first fragment was noted.
#[inline(always)]
pub(crate) fn ends(packet: &Packet) -> Option<Taken> {
    // SAFETY: the reference is read at once.
    unsafe { maps::TUNNEL_PARTS.get(&PartKey::of(packet)) }.copied()
}
