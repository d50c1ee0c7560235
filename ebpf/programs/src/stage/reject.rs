//! Answers to rejected packets: the packet itself is turned around and leaves by the interface it came in by.

use aya_ebpf::{
    EbpfContext,
    bindings::{
        __sk_buff, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT,
        bpf_adj_room_mode::{BPF_ADJ_ROOM_MAC, BPF_ADJ_ROOM_NET},
    },
    helpers::generated::{
        bpf_csum_diff, bpf_ktime_get_ns, bpf_l4_csum_replace, bpf_redirect, bpf_skb_change_tail,
        bpf_skb_load_bytes,
    },
    programs::TcContext,
};
use nightgate_abi::{
    ANSWER_TC_INDEX, Family, Rate, Reason, Refusal,
    limits::{ANSWERS, ANSWERS_BURST},
};
use nightgate_packet::{
    PacketMeta, protocol,
    refusal::{self, Answer, Completion, ICMP, IPV4, IPV6, QUOTE_V4, QUOTE_V6, Reset, TCP},
    sum::Sum,
};

use crate::{
    hook, maps,
    stage::{Work, lend, parse, report},
};

/// Room for what an ICMP error quotes, in whole chunks.
pub(crate) struct Quote([u32; QUOTE_V6.next_multiple_of(CHUNK) / 4]);

/// Bytes that `bpf_csum_diff` takes at a time (Linux 4.6).
const CHUNK: usize = 512;
/// Of `__sk_buff.pkt_type` (linux/if_packet.h): sent to this host's link address.
const PACKET_HOST: u32 = 0;

/// Whether a packet that leaves is one that [`answer`] made of a packet that came in by the same interface.
#[inline(always)]
pub(crate) fn is_answer(ctx: &TcContext) -> bool {
    hook::tc_index(ctx) == ANSWER_TC_INDEX && hook::ingress_ifindex(ctx) == hook::ifindex(ctx)
}

/// Answers the packet that has been rejected, or drops it if it gets no answer. Returns the program's action.
#[inline(always)]
pub(crate) fn answer(ctx: &TcContext) -> i32 {
    let (event, is_turned) = match turn(ctx) {
        Ok(event) => (event, true),
        Err(event) => (event, false),
    };
    report::count(ctx, event);
    if is_turned {
        // SAFETY: notes the interface for the action it returns.
        unsafe { bpf_redirect(hook::ifindex(ctx), 0) as i32 }
    } else {
        TC_ACT_SHOT
    }
}

/// Turns the packet into its answer. `Err` is why there is none.
#[inline(always)]
fn turn(ctx: &TcContext) -> Result<Reason, Reason> {
    let work = maps::WORK.get_ptr_mut(0).ok_or(Reason::AnswerFailed)?;
    // SAFETY: the slot belongs to this CPU, and the stages that used it are done.
    let work = unsafe { &mut *work };
    if hook::packet_type(ctx) != PACKET_HOST {
        return Err(Reason::AnswerUndue);
    }
    // As it is on the wire, whatever the stages have made of it.
    parse::parse(ctx, work).map_err(|_| Reason::AnswerFailed)?;
    let refusal = Refusal::from_action(work.refusal).ok_or(Reason::AnswerFailed)?;
    let answer = refusal::answer(&work.meta, refusal).ok_or(Reason::AnswerUndue)?;
    if !may_answer() {
        return Err(Reason::AnswerLimited);
    }
    let event = match answer {
        Answer::Reset => {
            reset(ctx, work)?;
            Reason::AnsweredReset
        }
        Answer::Unreachable(kind, code) => {
            unreachable(ctx, work, kind, code)?;
            Reason::AnsweredUnreachable
        }
    };
    return_to_sender(ctx)?;
    hook::set_tc_index(ctx, ANSWER_TC_INDEX);
    Ok(event)
}

/// Takes an answer from this CPU's bucket.
#[inline(always)]
fn may_answer() -> bool {
    const RATE: Rate = Rate::new(ANSWERS, 1_000_000_000, ANSWERS_BURST);
    let Some(bucket) = maps::ANSWERS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the slot belongs to this CPU, and TC programs do not preempt each other on one CPU; the helper reads
    // the clock.
    let (bucket, now) = unsafe { (&mut *bucket, bpf_ktime_get_ns()) };
    match bucket.take(now, &RATE) {
        Some(next) => {
            *bucket = next;
            true
        }
        None => false,
    }
}

/// What the global functions here return: the answer is made.
const MADE: u32 = 0;

/// Makes a TCP reset of a segment.
#[inline(always)]
fn reset(ctx: &TcContext, work: &mut Work) -> Result<(), Reason> {
    lend(work);
    if nightgate_reset(ctx.skb.skb) == MADE { Ok(()) } else { Err(Reason::AnswerFailed) }
}

/// Makes a TCP reset. A global function, as `nightgate_parse` is.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_reset(skb: *mut __sk_buff) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return MADE + 1;
    };
    // SAFETY: the slot belongs to this CPU; `reset` has lent its reference to it.
    let work = unsafe { &*work };
    u32::from(make_reset(&TcContext::new(skb), work).is_err())
}

/// What is behind the TCP header goes, and what is between it and the IP header.
#[inline(always)]
fn make_reset(ctx: &TcContext, work: &Work) -> Result<(), Reason> {
    let meta = &work.meta;
    let (network, transport) = (usize::from(meta.network), usize::from(meta.transport));
    let numbers: [u8; 8] = ctx.load(transport + 4).map_err(failed)?;
    let [data_offset]: [u8; 1] = ctx.load(transport + 12).map_err(failed)?;
    let [a, b, c, d, e, f, g, h] = numbers;
    let header = u32::from(data_offset >> 4) * 4;
    let data = (packet_end(ctx, meta)? as u32).saturating_sub(transport as u32 + header);
    let (sequence, acknowledgement) =
        (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    let reset = Reset::of(sequence, acknowledgement, meta.tcp_flags, data);
    resize(ctx, transport + TCP)?;
    let base = header_length(meta.family);
    let between = transport - network - base;
    if between != 0 {
        ctx.adjust_room(-(between as i32), BPF_ADJ_ROOM_NET, 0).map_err(failed)?;
    }
    let completion = completion(ctx, network + base + 16)?;
    store(ctx, network + base, &reset.header(meta, completion))?;
    store_network(ctx, meta, Answer::Reset, TCP)
}

/// Makes an ICMP error of a packet.
#[inline(always)]
fn unreachable(ctx: &TcContext, work: &mut Work, kind: u8, code: u8) -> Result<(), Reason> {
    lend(work);
    let made = nightgate_unreachable(ctx.skb.skb, u32::from(kind), u32::from(code));
    if made == MADE { Ok(()) } else { Err(Reason::AnswerFailed) }
}

/// Makes an ICMP error of a type and code. A global function, as `nightgate_parse` is.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_unreachable(skb: *mut __sk_buff, kind: u32, code: u32) -> u32 {
    let Some(work) = maps::WORK.get_ptr_mut(0) else {
        return MADE + 1;
    };
    // SAFETY: the slot belongs to this CPU; `unreachable` has lent its reference to it.
    let work = unsafe { &mut *work };
    u32::from(make_unreachable(&TcContext::new(skb), work, kind as u8, code as u8).is_err())
}

/// The packet is shortened and quoted behind new headers.
#[inline(always)]
fn make_unreachable(ctx: &TcContext, work: &mut Work, kind: u8, code: u8) -> Result<(), Reason> {
    let Work { meta, quote, .. } = work;
    let network = usize::from(meta.network);
    let limit = match meta.family {
        Family::V4 => QUOTE_V4,
        Family::V6 => QUOTE_V6,
    };
    let length = (packet_end(ctx, meta)? - network).min(limit);
    resize(ctx, network + length)?;
    let base = header_length(meta.family);
    let room = base + ICMP;
    ctx.adjust_room(room as i32, BPF_ADJ_ROOM_MAC, 0).map_err(failed)?;
    let quoted = network + room;
    let sum = match completion(ctx, network + base + 2)? {
        Completion::Done => quote.sum(ctx, quoted, length)?,
        Completion::Pending => pending_sum(ctx, meta, quote, room)?,
    };
    let header = refusal::icmp(meta, (kind, code), sum, length as u16);
    store(ctx, network + base, &header)?;
    store_network(ctx, meta, Answer::Unreachable(kind, code), ICMP + length)
}

/// The sum of a quote whose transport checksum has still to be completed: the quote's part from the transport
/// header on will then add up to the complement of what the field holds now.
#[inline(always)]
fn pending_sum(
    ctx: &TcContext,
    meta: &PacketMeta,
    quote: &mut Quote,
    room: usize,
) -> Result<Sum, Reason> {
    let field = match meta.protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        _ => return Err(Reason::AnswerFailed),
    };
    let (network, transport) = (usize::from(meta.network), usize::from(meta.transport));
    let [a, b]: [u8; 2] = ctx.load(transport + room + field).map_err(failed)?;
    Ok(quote.sum(ctx, network + room, transport - network)?.bytes(&[!a, !b]))
}

impl Quote {
    /// The sum of bytes of the packet, no more than a quote has.
    #[inline(always)]
    fn sum(&mut self, ctx: &TcContext, offset: usize, length: usize) -> Result<Sum, Reason> {
        let length = bounded(length as u64) as usize;
        if length == 0 || length > QUOTE_V6 {
            return Err(Reason::AnswerFailed);
        }
        self.0[length / 4] = 0;
        // SAFETY: the length is at most that of the room.
        let result = unsafe {
            bpf_skb_load_bytes(
                ctx.as_ptr(),
                offset as u32,
                self.0.as_mut_ptr().cast(),
                length as u32,
            )
        };
        if result != 0 {
            return Err(Reason::AnswerFailed);
        }
        let mut sum = 0;
        let mut start = 0;
        while start < QUOTE_V6 {
            if length > start {
                let size = bounded((length - start).div_ceil(4) as u64 * 4).min(CHUNK as u64);
                // SAFETY: start and size are within the room.
                sum = unsafe {
                    let from = self.0.as_mut_ptr().byte_add(start);
                    bpf_csum_diff(core::ptr::null_mut(), 0, from, size as u32, sum)
                } as u32;
            }
            start += CHUNK;
        }
        Ok(Sum::from_native(sum))
    }
}

/// A number below 65536 of which the compiler knows no more, so that it leaves comparisons in the program that the
/// verifier needs.
#[inline(always)]
fn bounded(number: u64) -> u64 {
    let mut number = number;
    // SAFETY: changes one register.
    unsafe {
        core::arch::asm!("{number} &= 0xffff", number = inout(reg) number, options(nomem, nostack))
    };
    number
}

/// Offset of the end of the IP packet in the frame, behind which there may be padding.
#[inline(always)]
fn packet_end(ctx: &TcContext, meta: &PacketMeta) -> Result<usize, Reason> {
    let network = usize::from(meta.network);
    let (field, before) = match meta.family {
        Family::V4 => (2, 0),
        Family::V6 => (4, IPV6),
    };
    let length: [u8; 2] = ctx.load(network + field).map_err(failed)?;
    Ok(network + before + usize::from(u16::from_be_bytes(length)))
}

/// Length of the IP header of answers.
#[inline(always)]
fn header_length(family: Family) -> usize {
    match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    }
}

/// Cuts the frame. The kernel makes it one linear packet without a segment size.
#[inline(always)]
fn resize(ctx: &TcContext, length: usize) -> Result<(), Reason> {
    // SAFETY: the context is valid; no pointer into the packet is kept.
    let result = unsafe { bpf_skb_change_tail(ctx.skb.skb, length as u32, 0) };
    if result == 0 { Ok(()) } else { Err(Reason::AnswerFailed) }
}

/// Who completes the packet's transport checksum. Tried out on the two bytes at an offset: a change that is not
/// one of the pseudo-header is left to whom completes the checksum.
#[inline(always)]
fn completion(ctx: &TcContext, offset: usize) -> Result<Completion, Reason> {
    /// Length of the fields that change.
    const SIZE: u64 = 2;
    store(ctx, offset, &[0; 2])?;
    // SAFETY: the context is valid; no pointer into the packet is kept.
    if unsafe { bpf_l4_csum_replace(ctx.skb.skb, offset as u32, 0, 1, SIZE) } != 0 {
        return Err(Reason::AnswerFailed);
    }
    let changed: [u8; 2] = ctx.load(offset).map_err(failed)?;
    Ok(if changed == [0; 2] { Completion::Pending } else { Completion::Done })
}

/// Writes the answer's IP header.
#[inline(always)]
fn store_network(
    ctx: &TcContext,
    meta: &PacketMeta,
    answer: Answer,
    length: usize,
) -> Result<(), Reason> {
    let offset = usize::from(meta.network);
    match meta.family {
        Family::V4 => store(ctx, offset, &refusal::ipv4(meta, answer, length as u16)),
        Family::V6 => store(ctx, offset, &refusal::ipv6(meta, answer, length as u16)),
    }
}

/// Swaps the link addresses.
#[inline(always)]
fn return_to_sender(ctx: &TcContext) -> Result<(), Reason> {
    let addresses: [u8; 12] = ctx.load(0).map_err(failed)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = addresses;
    // The sum of the frame stays as it is.
    ctx.store(0, &[g, h, i, j, k, l, a, b, c, d, e, f], 0).map_err(failed)
}

/// Writes bytes, and keeps a sum that the network card has made of the whole packet true.
#[inline(always)]
fn store<const N: usize>(ctx: &TcContext, offset: usize, bytes: &[u8; N]) -> Result<(), Reason> {
    ctx.store(offset, bytes, u64::from(BPF_F_RECOMPUTE_CSUM)).map_err(failed)
}

fn failed<E>(_refused_by_the_kernel: E) -> Reason {
    Reason::AnswerFailed
}
