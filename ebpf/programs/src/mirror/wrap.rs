//! Outer headers around a frame.

use aya_ebpf::{
    bindings::{
        BPF_ADJ_ROOM_ENCAP_L2_SHIFT, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_GRE, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        BPF_F_ADJ_ROOM_FIXED_GSO, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::generated::{bpf_get_prandom_u32, bpf_skb_vlan_pop, bpf_skb_vlan_push},
    programs::TcContext,
};
use nightgate_abi::{
    Family,
    mirror::{Encapsulation, Outcome},
};
use nightgate_packet::encapsulation::{self, Envelope, geneve, gre, outer, vxlan};

use super::sending::Copy;

/// Ethernet header.
const ETHERNET: usize = 14;
/// 802.1Q tag.
const TAG: usize = 4;
/// Tag protocol identifier of IEEE 802.1Q.
const TAG_PROTOCOL: u16 = 0x8100;
/// IP protocols in `__sk_buff.protocol`, which holds the EtherType in network order.
const PROTOCOL_IPV4: u32 = 0x0800_u16.to_be() as u32;
const PROTOCOL_IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// The frame that is wrapped.
pub(super) struct Inner {
    /// 802.1Q tag that the frame gets, as the bytes of the tag; 0 for none. Not an `Option` of bytes: merging those
    /// makes code that the verifier refuses.
    tag: u32,
    /// Whether the kernel keeps a tag beside the frame: 1 if so, else 0.
    has_own_tag: u32,
    /// Length of the whole frame, tag included.
    pub(super) length: u16,
}

impl Inner {
    #[inline(always)]
    pub(super) fn read(copy: &Copy<'_>) -> Result<Self, Outcome> {
        // SAFETY: the context is valid for the whole program run.
        let skb = unsafe { &*copy.ctx.skb.skb };
        if skb.protocol != PROTOCOL_IPV4 && skb.protocol != PROTOCOL_IPV6 {
            return Err(Outcome::NotIp);
        }
        let vlan = copy.session.vlan_of(copy.mark.service());
        let has_own_tag = skb.vlan_present;
        let tag = if vlan != 0 {
            tag(TAG_PROTOCOL.to_be().into(), vlan)
        } else if has_own_tag != 0 {
            // The protocol is in network order already.
            tag(skb.vlan_proto, skb.vlan_tci as u16)
        } else {
            0
        };
        let length = skb.len + if tag == 0 { 0 } else { TAG as u32 };
        if length > u32::from(encapsulation::INNER_MAX) {
            return Err(Outcome::TooLong);
        }
        Ok(Self { tag, has_own_tag, length: length as u16 })
    }

    /// Gives the frame its tag, beside it, and puts nothing around it.
    #[inline(always)]
    pub(super) fn tag(&self, copy: &Copy<'_>) -> Result<(), Outcome> {
        let vlan = copy.session.vlan_of(copy.mark.service());
        if vlan == 0 {
            return Ok(());
        }
        self.untag(copy.ctx)?;
        // SAFETY: the context is valid; no pointer into the packet is kept.
        match unsafe { bpf_skb_vlan_push(copy.ctx.skb.skb, TAG_PROTOCOL.to_be(), vlan) } {
            0 => Ok(()),
            _ => Err(Outcome::EncapsulationFailed),
        }
    }

    #[inline(always)]
    fn untag(&self, ctx: &TcContext) -> Result<(), Outcome> {
        // SAFETY: the context is valid; no pointer into the packet is kept.
        if self.has_own_tag != 0 && unsafe { bpf_skb_vlan_pop(ctx.skb.skb) } != 0 {
            return Err(Outcome::EncapsulationFailed);
        }
        Ok(())
    }

    /// Puts the outer headers in front of the frame, and the tag into it.
    #[inline(always)]
    pub(super) fn wrap(&self, copy: &Copy<'_>, envelope: &Envelope) -> Result<(), Outcome> {
        let ctx = copy.ctx;
        let link = ctx.load(0).map_err(|_| Outcome::EncapsulationFailed)?;
        let sensor = copy.sensor;
        let family = sensor.address.family();
        self.make_room(copy, family)?;
        match family {
            Family::V4 => {
                // SAFETY: returns a random number.
                let identification = unsafe { bpf_get_prandom_u32() } as u16;
                store(ctx, 0, &outer::v4(sensor, envelope, identification))?;
            }
            Family::V6 => store(ctx, 0, &outer::v6(sensor, envelope))?,
        }
        let offset = ETHERNET + outer::length(family);
        let (id, port) = (copy.session.vni, sensor.udp_port);
        match copy.encapsulation {
            Encapsulation::Vxlan => store(ctx, offset, &vxlan::headers(id, port, envelope))?,
            Encapsulation::Geneve => {
                store(ctx, offset, &geneve::headers(id, port, envelope, &copy.metadata()))?;
            }
            Encapsulation::Erspan => {
                store(ctx, offset, &gre::erspan(id, copy.sequence() as u32, copy.is_cut))?;
            }
            Encapsulation::Gre => store(ctx, offset, &gre::headers(id))?,
            Encapsulation::Local => {}
        }
        self.store_link(ctx, offset + encapsulation::length(copy.encapsulation), link)
    }

    /// Makes room behind the Ethernet header, which becomes the outer one.
    #[inline(always)]
    fn make_room(&self, copy: &Copy<'_>, family: Family) -> Result<(), Outcome> {
        self.untag(copy.ctx)?;
        let link = ETHERNET + if self.tag == 0 { 0 } else { TAG };
        let network = match family {
            Family::V4 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
            Family::V6 => BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        };
        let transport = match copy.encapsulation {
            Encapsulation::Vxlan | Encapsulation::Geneve => BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
            Encapsulation::Erspan | Encapsulation::Gre | Encapsulation::Local => {
                BPF_F_ADJ_ROOM_ENCAP_L4_GRE
            }
        };
        // A segment stays one of frames as long as the mirrored ones: the way to the sensor has room for the headers.
        let kind = network | transport | BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_FIXED_GSO;
        let flags = u64::from(kind) | (link as u64) << BPF_ADJ_ROOM_ENCAP_L2_SHIFT;
        let room = outer::length(family) + encapsulation::length(copy.encapsulation) + link;
        copy.ctx
            .adjust_room(room as i32, BPF_ADJ_ROOM_MAC, flags)
            .map_err(|_| Outcome::EncapsulationFailed)
    }

    /// Writes the inner Ethernet header.
    #[inline(always)]
    fn store_link(
        &self,
        ctx: &TcContext,
        offset: usize,
        link: [u8; ETHERNET],
    ) -> Result<(), Outcome> {
        if self.tag == 0 {
            return store(ctx, offset, &link);
        }
        let [addresses @ .., type_0, type_1] = link;
        let addresses: [u8; 12] = addresses;
        store(ctx, offset, &addresses)?;
        store(ctx, offset + addresses.len(), &self.tag.to_ne_bytes())?;
        store(ctx, offset + addresses.len() + TAG, &[type_0, type_1])
    }
}

/// The bytes of an 802.1Q tag: protocol in network order, then control information.
#[inline(always)]
fn tag(protocol: u32, control: u16) -> u32 {
    protocol & 0xffff | u32::from(control.to_be()) << 16
}

#[inline(always)]
fn store<const N: usize>(ctx: &TcContext, offset: usize, bytes: &[u8; N]) -> Result<(), Outcome> {
    ctx.store(offset, bytes, 0).map_err(|_| Outcome::EncapsulationFailed)
}
