//! Echo requests to intercepted destinations: the request itself becomes the answer and leaves by the interface that it
//! came in by.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM},
    helpers::generated::{bpf_l4_csum_replace, bpf_redirect, bpf_skb_store_bytes},
    programs::TcContext,
};
use nightgate_abi::{ANSWER_TC_INDEX, Family, Reason, intercept::flags};
use nightgate_packet::{PacketMeta, Part};

use crate::{
    hook, maps,
    stage::{Work, intercept, lend},
};

/// Types of echo requests and their answers (RFC 792, RFC 4443 section 4).
const ECHO: [u8; 2] = [8, 0];
const ECHO_V6: [u8; 2] = [128, 129];

/// Of `__sk_buff.pkt_type` (linux/if_packet.h): sent to this host's link address.
const PACKET_HOST: u32 = 0;

/// Turns the echo request in the work space into its answer, if the service of its destination can be reached.
///
/// # Errors
/// It cannot, or the packet is none that gets an answer.
#[inline(always)]
pub(crate) fn turn(ctx: &TcContext, work: &mut Work) -> Result<Reason, Reason> {
    let meta = &work.meta;
    if meta.fragment.part != Part::Whole {
        return Err(Reason::InterceptFragment);
    }
    if hook::packet_type(ctx) != PACKET_HOST {
        return Err(Reason::InterceptProtocol);
    }
    let (protocol, destination) = (meta.protocol, meta.destination);
    let message = u16::from_be_bytes([meta.icmp_type, meta.icmp_code]);
    work.subject.protocol = protocol;
    work.subject.destination = destination;
    work.subject.destination_port = message;
    if intercept::find(work).flags & flags::REACHABLE == 0 {
        return Err(Reason::EchoUnreachable);
    }
    lend(work);
    if nightgate_echo(ctx.skb.skb) == 0 {
        Ok(Reason::EchoAnswered)
    } else {
        Err(Reason::EchoFailed)
    }
}

/// Sends the answer out again. Returns the program's action.
#[inline(always)]
pub(crate) fn send_back(ctx: &TcContext) -> i32 {
    // SAFETY: notes the interface for the action it returns.
    unsafe { bpf_redirect(hook::ifindex(ctx), 0) as i32 }
}

/// Makes the answer. A global function, as `nightgate_classify` is. Returns 0 if that worked.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_echo(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else { return 1 };
    // SAFETY: the slot belongs to this CPU; `turn` has lent its reference to it.
    let meta = unsafe { &(*work).meta };
    let ctx = TcContext::new(skb);
    let Some(()) = answer(&ctx, meta) else { return 1 };
    hook::set_tc_index(&ctx, ANSWER_TC_INDEX);
    0
}

/// Exchanges the ends, and makes of the type the answer's. Exchanged addresses change no checksum.
#[inline(always)]
fn answer(ctx: &TcContext, meta: &PacketMeta) -> Option<()> {
    let (network, transport) = (usize::from(meta.network), usize::from(meta.transport));
    let [request, reply] = match meta.family {
        Family::V4 => ECHO,
        Family::V6 => ECHO_V6,
    };
    if meta.icmp_type != request {
        return None;
    }
    let [from, to] = [meta.source, meta.destination];
    match meta.family {
        Family::V4 => {
            let [a, b, c, d] = to.v4_octets();
            let [e, f, g, h] = from.v4_octets();
            store(ctx, network + 12, &[a, b, c, d, e, f, g, h])?;
        }
        Family::V6 => {
            store(ctx, network + 8, &octets(to.halves()))?;
            store(ctx, network + 24, &octets(from.halves()))?;
        }
    }
    store(ctx, transport, &[reply])?;
    adjust(ctx, transport + 2, [request, reply])?;
    let macs: [u8; 12] = ctx.load(0).ok()?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = macs;
    store(ctx, 0, &[g, h, i, j, k, l, a, b, c, d, e, f])
}

/// The bytes of an address.
#[inline(always)]
fn octets([high, low]: [u64; 2]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h] = high.to_ne_bytes();
    let [i, j, k, l, m, n, o, p] = low.to_ne_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Corrects the checksum of a message whose type has changed; it covers the type as the higher byte of a word.
#[inline(always)]
fn adjust(ctx: &TcContext, offset: usize, [before, after]: [u8; 2]) -> Option<()> {
    let word = |kind: u8| u64::from(u16::from_ne_bytes([kind, 0]));
    // SAFETY: the context is valid; the helper checks the offset against the packet.
    let result =
        unsafe { bpf_l4_csum_replace(ctx.skb.skb, offset as u32, word(before), word(after), 2) };
    if result == 0 { Some(()) } else { None }
}

#[inline(always)]
fn store<const N: usize>(ctx: &TcContext, offset: usize, bytes: &[u8; N]) -> Option<()> {
    let (from, length) = ((&raw const *bytes).cast(), N as u32);
    let flags = BPF_F_RECOMPUTE_CSUM.into();
    // SAFETY: the source is N bytes long; the helper checks the offset against the packet.
    let result = unsafe { bpf_skb_store_bytes(ctx.skb.skb, offset as u32, from, length, flags) };
    if result == 0 { Some(()) } else { None }
}
