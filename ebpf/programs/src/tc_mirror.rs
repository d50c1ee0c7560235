//! TC ingress of the mirror's inner device: copies of mirrored packets, in the frames that a wire would carry,
//! leave for their session's sensor in VXLAN.

use core::mem;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        __sk_buff, BPF_ADJ_ROOM_ENCAP_L2_SHIFT, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_NO_PREALLOC,
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        TC_ACT_SHOT, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_fib_lookup as Parameters,
        bpf_redir_neigh as NextHop,
    },
    btf_maps::{HashMap, PerCpuArray},
    helpers::generated::{
        bpf_fib_lookup, bpf_get_prandom_u32, bpf_redirect, bpf_redirect_neigh, bpf_skb_vlan_pop,
    },
    macros::{btf_map, classifier},
    programs::TcContext,
};
use nightgate_abi::{
    Counter, Family,
    mirror::{self, MirrorSession, Outcome},
};
use nightgate_packet::{
    Packet, Part, parse, protocol,
    vxlan::{self, Envelope},
};

use crate::{frame::TcFrame, hook};

/// Sessions by number. Not preallocated: an entry that is replaced or removed stays whole until the programs
/// that read it are done, so that no copy goes to a mixture of two sensors.
#[btf_map]
static MIRROR_SESSIONS: HashMap<
    u32,
    MirrorSession,
    { mirror::SESSIONS as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

#[btf_map]
static MIRROR_COUNTERS: PerCpuArray<Counter, { mirror::COUNTERS as usize }> = PerCpuArray::new();

/// Ethernet header.
const ETHERNET: usize = 14;
/// 802.1Q tag.
const TAG: usize = 4;
/// IP protocols in `__sk_buff.protocol`, which holds the EtherType in network order.
const PROTOCOL_IPV4: u32 = 0x0800_u16.to_be() as u32;
const PROTOCOL_IPV6: u32 = 0x86dd_u16.to_be() as u32;

#[classifier]
pub(crate) fn tc_mirror(ctx: TcContext) -> i32 {
    let (number, length) = (hook::mark(&ctx), ctx.len());
    let (outcome, action) = match send(&ctx, number) {
        Ok(sent) => sent,
        Err(outcome) => (outcome, TC_ACT_SHOT),
    };
    count(number, outcome, length);
    action
}

/// Encapsulates and sends a copy. `Ok` says whether the sensor's link address was known.
#[inline(always)]
fn send(ctx: &TcContext, number: u32) -> Result<(Outcome, i32), Outcome> {
    // SAFETY: the entry is not changed in place: userspace replaces it, and frees the old one only after all
    // programs that may read it (BPF_F_NO_PREALLOC).
    let session = unsafe { MIRROR_SESSIONS.get(number) }.ok_or(Outcome::NoSession)?;
    let inner = Inner::read(ctx)?;
    let envelope = Envelope {
        link_destination: [0; 6],
        link_source: [0; 6],
        inner: inner.length,
        source_port: source_port(ctx),
    };
    let path = Path::find(ctx, session, &envelope)?;
    let envelope = Envelope {
        link_destination: path.parameters.dmac,
        link_source: path.parameters.smac,
        ..envelope
    };
    inner.wrap(ctx, session, &envelope)?;
    ctx.set_mark(mirror::ENCAPSULATED_MARK);
    Ok(path.leave())
}

#[inline(always)]
fn count(number: u32, outcome: Outcome, length: u32) {
    if let Some(counter) = MIRROR_COUNTERS.get_ptr_mut(mirror::counter_index(number, outcome)) {
        // SAFETY: the slot belongs to this CPU, and TC programs do not preempt each other on one CPU.
        let counter = unsafe { &mut *counter };
        counter.packets += 1;
        counter.bytes += u64::from(length);
    }
}

/// The flow's port; packets without a flow share one. Fragments have that of a flow without ports, all of a packet alike.
#[inline(always)]
fn source_port(ctx: &TcContext) -> u16 {
    match parse(&TcFrame(ctx)) {
        Ok(Packet::Ip(mut meta)) => {
            if meta.fragment.part != Part::Whole {
                (meta.source_port, meta.destination_port) = (0, 0);
            }
            vxlan::source_port(&meta.flow_key().0)
        }
        Ok(Packet::Arp | Packet::NeighbourDiscovery) | Err(_) => vxlan::SOURCE_PORT_MIN,
    }
}

/// The frame that is wrapped.
struct Inner {
    /// 802.1Q tag that the kernel keeps beside the frame, as the bytes of the tag; 0 for none. Not an `Option`
    /// of bytes: merging those makes code that the verifier refuses.
    tag: u32,
    /// Length of the whole frame, tag included.
    length: u16,
}

impl Inner {
    #[inline(always)]
    fn read(ctx: &TcContext) -> Result<Self, Outcome> {
        // SAFETY: the context is valid for the whole program run.
        let skb = unsafe { &*ctx.skb.skb };
        if skb.protocol != PROTOCOL_IPV4 && skb.protocol != PROTOCOL_IPV6 {
            return Err(Outcome::NotIp);
        }
        if skb.gso_size != 0 {
            return Err(Outcome::NotSegmented);
        }
        let (tag, tag_length) = if skb.vlan_present == 0 { (0, 0) } else { (tag(skb), TAG as u32) };
        let length = skb.len + tag_length;
        if length > u32::from(vxlan::INNER_MAX) {
            return Err(Outcome::TooLong);
        }
        Ok(Self { tag, length: length as u16 })
    }

    /// Puts the outer headers in front of the frame, and the tag into it.
    #[inline(always)]
    fn wrap(
        &self,
        ctx: &TcContext,
        session: &MirrorSession,
        envelope: &Envelope,
    ) -> Result<(), Outcome> {
        let link = ctx.load(0).map_err(|_| Outcome::EncapsulationFailed)?;
        match session.sensor.family() {
            Family::V4 => {
                self.make_room(ctx, vxlan::OUTER_V4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4)?;
                // SAFETY: returns a random number.
                let identification = unsafe { bpf_get_prandom_u32() } as u16;
                store(ctx, 0, &vxlan::outer_v4(session, envelope, identification))?;
                self.store_link(ctx, vxlan::OUTER_V4, link)
            }
            Family::V6 => {
                self.make_room(ctx, vxlan::OUTER_V6, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6)?;
                store(ctx, 0, &vxlan::outer_v6(session, envelope))?;
                self.store_link(ctx, vxlan::OUTER_V6, link)
            }
        }
    }

    /// Makes room behind the Ethernet header, which becomes the outer one.
    #[inline(always)]
    fn make_room(&self, ctx: &TcContext, outer: usize, family: u32) -> Result<(), Outcome> {
        let mut link = ETHERNET;
        if self.tag != 0 {
            link += TAG;
            // SAFETY: the context is valid; no pointer into the packet is kept.
            if unsafe { bpf_skb_vlan_pop(ctx.skb.skb) } != 0 {
                return Err(Outcome::EncapsulationFailed);
            }
        }
        let flags = u64::from(family | BPF_F_ADJ_ROOM_ENCAP_L4_UDP)
            | (link as u64) << BPF_ADJ_ROOM_ENCAP_L2_SHIFT;
        let room = outer - ETHERNET + link;
        ctx.adjust_room(room as i32, BPF_ADJ_ROOM_MAC, flags)
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

/// The bytes of the 802.1Q tag beside a frame: protocol, then control information.
#[inline(always)]
fn tag(skb: &__sk_buff) -> u32 {
    // The protocol is in network order already.
    skb.vlan_proto & 0xffff | u32::from((skb.vlan_tci as u16).to_be()) << 16
}

#[inline(always)]
fn store<const N: usize>(ctx: &TcContext, offset: usize, bytes: &[u8; N]) -> Result<(), Outcome> {
    ctx.store(offset, bytes, 0).map_err(|_| Outcome::EncapsulationFailed)
}

/// The way to a session's sensor.
struct Path {
    /// The kernel's answer: link addresses if `resolved`, next hop else.
    parameters: Parameters,
    family: Family,
    resolved: bool,
}

impl Path {
    /// Looks the route up. It has to leave by the session's interface: a copy is plaintext, and goes nowhere
    /// else.
    #[inline(always)]
    fn find(
        ctx: &TcContext,
        session: &MirrorSession,
        envelope: &Envelope,
    ) -> Result<Self, Outcome> {
        let family = session.sensor.family();
        let mut parameters = parameters(session, envelope, hook::ifindex(ctx));
        // SAFETY: the parameters are initialised and of the size given.
        let answer = unsafe {
            bpf_fib_lookup(ctx.as_ptr(), &raw mut parameters, size_of::<Parameters>() as i32, 0)
        };
        let resolved = match answer as u32 {
            BPF_FIB_LKUP_RET_SUCCESS => true,
            BPF_FIB_LKUP_RET_NO_NEIGH => false,
            BPF_FIB_LKUP_RET_FRAG_NEEDED => return Err(Outcome::TooLong),
            _ => return Err(Outcome::NoRoute),
        };
        if parameters.ifindex != session.ifindex {
            return Err(Outcome::NoRoute);
        }
        Ok(Self { parameters, family, resolved })
    }

    /// Sends the packet: straight out if the next hop's link address is known; else by way of the kernel's
    /// neighbour table, which asks for it.
    #[inline(always)]
    fn leave(&self) -> (Outcome, i32) {
        let ifindex = self.parameters.ifindex;
        if self.resolved {
            // SAFETY: notes the interface for the action it returns.
            return (Outcome::Mirrored, unsafe { bpf_redirect(ifindex, 0) } as i32);
        }
        // SAFETY: a structure of integers and unions of integers; zero is valid.
        let mut hop: NextHop = unsafe { mem::zeroed() };
        hop.nh_family = u32::from(address_family(self.family));
        // SAFETY: both unions are arrays of integers of one size, initialised by the lookup.
        hop.__bindgen_anon_1.ipv6_nh = unsafe { self.parameters.__bindgen_anon_4.ipv6_dst };
        // SAFETY: the next hop is initialised and of the size given.
        let action =
            unsafe { bpf_redirect_neigh(ifindex, &raw mut hop, size_of::<NextHop>() as i32, 0) };
        (Outcome::NoNeighbour, action as i32)
    }
}

#[inline(always)]
fn parameters(session: &MirrorSession, envelope: &Envelope, ifindex: u32) -> Parameters {
    // SAFETY: a structure of integers and unions of integers; zero is valid.
    let mut parameters: Parameters = unsafe { mem::zeroed() };
    let family = session.sensor.family();
    parameters.family = address_family(family);
    parameters.l4_protocol = protocol::UDP;
    parameters.sport = envelope.source_port.to_be();
    parameters.dport = session.udp_port.to_be();
    parameters.__bindgen_anon_1.tot_len = vxlan::outer_length(family, envelope);
    parameters.ifindex = ifindex;
    match family {
        Family::V4 => {
            let (source, sensor) = (session.source.v4_octets(), session.sensor.v4_octets());
            parameters.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(source);
            parameters.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(sensor);
        }
        Family::V6 => {
            // SAFETY: an array of bytes as an array of words of the same size.
            let words = |octets: [u8; 16]| unsafe { mem::transmute::<[u8; 16], [u32; 4]>(octets) };
            parameters.__bindgen_anon_3.ipv6_src = words(session.source.octets());
            parameters.__bindgen_anon_4.ipv6_dst = words(session.sensor.octets());
        }
    }
    parameters
}

/// `AF_INET` or `AF_INET6`.
#[inline(always)]
fn address_family(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}
