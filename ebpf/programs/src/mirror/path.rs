//! The way of a copy to its sensor.

use core::mem;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        bpf_check_mtu_flags::BPF_MTU_CHK_SEGS, bpf_fib_lookup as Parameters,
        bpf_redir_neigh as NextHop,
    },
    helpers::generated::{bpf_check_mtu, bpf_fib_lookup, bpf_redirect, bpf_redirect_neigh},
};
use nightgate_abi::{
    Family,
    mirror::{Encapsulation, Outcome},
};
use nightgate_packet::encapsulation::{Envelope, outer};

use super::sending::Copy;
use crate::hook;

/// The way to a session's sensor.
pub(super) struct Path {
    /// The kernel's answer: link addresses if `resolved`, next hop else.
    parameters: Parameters,
    family: Family,
    resolved: bool,
}

impl Path {
    /// Looks the route up. It has to leave by the session's interface: a copy is plaintext, and goes nowhere
    /// else.
    #[inline(always)]
    pub(super) fn find(copy: &Copy<'_>, envelope: &Envelope) -> Result<Self, Outcome> {
        let Copy { ctx, sensor, .. } = *copy;
        let family = sensor.address.family();
        if copy.encapsulation == Encapsulation::Local {
            // SAFETY: a structure of integers and unions of integers; zero is valid.
            let mut parameters: Parameters = unsafe { mem::zeroed() };
            parameters.ifindex = sensor.ifindex;
            return Ok(Self { parameters, family, resolved: true });
        }
        let mut parameters = parameters(copy, envelope);
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
        if parameters.ifindex != sensor.ifindex {
            return Err(Outcome::NoRoute);
        }
        Ok(Self { parameters, family, resolved })
    }

    /// Whether the link address of the next hop is known.
    #[inline(always)]
    pub(super) fn is_resolved(&self) -> bool {
        self.resolved
    }

    /// Link address of the next hop; zero if it is not known.
    #[inline(always)]
    pub(super) fn link_destination(&self) -> [u8; 6] {
        self.parameters.dmac
    }

    /// Link address of the interface.
    #[inline(always)]
    pub(super) fn link_source(&self) -> [u8; 6] {
        self.parameters.smac
    }

    /// Makes sure that the interface carries the packet, or each frame of a segment. Of single frames with outer headers,
    /// the lookup has done that.
    ///
    /// # Errors
    /// It is too long for it.
    #[inline(always)]
    pub(super) fn check_length(&self, copy: &Copy<'_>) -> Result<(), Outcome> {
        if copy.encapsulation != Encapsulation::Local && !hook::is_segment(copy.ctx) {
            return Ok(());
        }
        let (ifindex, mut mtu) = (self.parameters.ifindex, 0);
        let flags = u64::from(BPF_MTU_CHK_SEGS);
        // SAFETY: the context is valid, and the helper writes one word.
        match unsafe { bpf_check_mtu(copy.ctx.as_ptr(), ifindex, &raw mut mtu, 0, flags) } {
            0 => Ok(()),
            _ => Err(Outcome::TooLong),
        }
    }

    /// Sends the packet: straight out if the next hop's link address is known; else by way of the kernel's
    /// neighbour table, which asks for it.
    #[inline(always)]
    pub(super) fn leave(&self) -> (Outcome, i32) {
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
fn parameters(copy: &Copy<'_>, envelope: &Envelope) -> Parameters {
    let sensor = copy.sensor;
    // SAFETY: a structure of integers and unions of integers; zero is valid.
    let mut parameters: Parameters = unsafe { mem::zeroed() };
    let family = sensor.address.family();
    parameters.family = address_family(family);
    parameters.l4_protocol = outer::protocol_of(copy.encapsulation);
    parameters.sport = envelope.source_port().to_be();
    parameters.dport = sensor.udp_port.to_be();
    parameters.__bindgen_anon_1.tot_len = if hook::is_segment(copy.ctx) {
        0
    } else {
        envelope.outer_length(family, copy.encapsulation)
    };
    parameters.ifindex = hook::ifindex(copy.ctx);
    match family {
        Family::V4 => {
            let (source, address) = (sensor.source.v4_octets(), sensor.address.v4_octets());
            parameters.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(source);
            parameters.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(address);
        }
        Family::V6 => {
            // SAFETY: an array of bytes as an array of words of the same size.
            let words = |octets: [u8; 16]| unsafe { mem::transmute::<[u8; 16], [u32; 4]>(octets) };
            parameters.__bindgen_anon_3.ipv6_src = words(sensor.source.octets());
            parameters.__bindgen_anon_4.ipv6_dst = words(sensor.address.octets());
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
