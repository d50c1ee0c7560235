//! Telling of single packets: the log of rules, and live traces. Nothing here runs unless one of them is on.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    programs::TcContext,
};
use nightgate_abi::{
    Active, Bucket, Features, Reason, ZoneId,
    event::{Event, LOG_RATE, LogKey, LogState},
    forest::NO_RULE,
    reason::Kind,
};
use nightgate_packet::{Frame as _, PacketMeta};

use crate::{
    frame::TcFrame,
    hook::{self, Hook},
    maps,
    stage::report,
};

/// What the stages leave for this one.
pub(crate) struct Sight {
    /// What is told.
    event: Event,
    /// Whether the log is told, for the rule that decided.
    due: Due,
    /// How much this CPU has traced.
    traced: Bucket,
}

/// What the log has to be told.
#[derive(Clone, Copy, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Due {
    /// Nothing.
    Nothing = 0,
    /// The packet, if it is refused.
    Refusal = 1,
    /// The packet.
    Packet = 2,
}

/// Begins with a packet of which nothing is known.
#[inline(never)]
pub(crate) fn begin() {
    let Some(work) = maps::WORK.get_ptr_mut(0) else { return };
    // SAFETY: the slot belongs to this CPU, and no reference to it exists yet.
    let sight = unsafe { &mut (*work).sight };
    sight.event.is_ip = 0;
    sight.event.rule = NO_RULE;
    sight.event.from = ZoneId::NONE;
    sight.event.to = ZoneId::NONE;
    sight.due = Due::Nothing;
}

impl Sight {
    /// Takes over what the packet is, before it is changed.
    #[inline(always)]
    pub(crate) fn parsed(&mut self, meta: &PacketMeta) {
        let event = &mut self.event;
        event.source = meta.source;
        event.destination = meta.destination;
        event.source_port = meta.source_port;
        event.destination_port = meta.destination_port;
        event.protocol = meta.protocol;
        event.tcp_flags = meta.tcp_flags;
        event.is_ip = 1;
    }

    /// Takes over between which zones the packet's flow is.
    #[inline(always)]
    pub(crate) fn between(&mut self, from: ZoneId, to: ZoneId) {
        self.event.from = from;
        self.event.to = to;
    }

    /// Takes over which rule decides, and what the log is to be told of it.
    #[inline(always)]
    pub(crate) fn decided(&mut self, rule: u32, due: Due) {
        self.event.rule = rule;
        self.due = due;
    }
}

/// Tells of a packet what became of it.
#[inline(never)]
pub(crate) fn end(ctx: &TcContext, hook: Hook, active: Active, reason: Reason, kind: Kind) {
    let Some(work) = maps::WORK.get_ptr_mut(0) else { return };
    // SAFETY: the slot belongs to this CPU, and the stages have given up their reference to it.
    let sight = unsafe { &mut (*work).sight };
    let is_logged = match sight.due {
        Due::Nothing => false,
        Due::Refusal => kind == Kind::Drop,
        Due::Packet => true,
    } || (reason == Reason::NoRule && active.uses(Features::LOG_UNMATCHED));
    if !is_logged && !active.uses(Features::TRACE) {
        return;
    }
    describe(ctx, hook, active, &mut sight.event);
    sight.event.reason = reason.index() as u16;
    if is_logged {
        log(ctx, &mut sight.event);
    }
    if active.uses(Features::TRACE) {
        trace(ctx, sight, kind);
    }
}

/// Adds what is known of every packet.
#[inline(always)]
fn describe(ctx: &TcContext, hook: Hook, active: Active, event: &mut Event) {
    // SAFETY: reads the clock.
    event.at = unsafe { bpf_ktime_get_ns() };
    event.suppressed = 0;
    event.epoch = active.epoch();
    event.ifindex = hook::ifindex(ctx);
    event.length = ctx.len();
    event.hook = hook.number();
    let frame = TcFrame(ctx);
    event.macs = frame.read(0).unwrap_or([0; 12]);
    event.ether_type = u16::from_be_bytes(frame.read(12).unwrap_or([0; 2]));
}

/// Writes a log record, unless the rule has written too many.
#[inline(always)]
fn log(ctx: &TcContext, event: &mut Event) {
    let key = LogKey { epoch: event.epoch, rule: event.rule };
    let mut state = maps::LOG_STATES.get_ptr_mut(&key);
    if state.is_none() {
        let _another_cpu_was_first =
            maps::LOG_STATES.insert(&key, &LogState::default(), BPF_NOEXIST.into());
        state = maps::LOG_STATES.get_ptr_mut(&key);
    }
    let Some(state) = state else {
        return report::count(ctx, Reason::LogSuppressed);
    };
    // SAFETY: the entry stays mapped while the program runs. Other CPUs that write it at the same time make the
    // limit and the count inexact, no more.
    let state = unsafe { &mut *state };
    match state.bucket.take(event.at, &LOG_RATE) {
        Some(bucket) => state.bucket = bucket,
        None => {
            state.suppressed += 1;
            return report::count(ctx, Reason::LogSuppressed);
        }
    }
    event.suppressed = state.suppressed;
    if maps::LOG.output(&*event, BPF_RB_NO_WAKEUP.into()).is_err() {
        return report::count(ctx, Reason::LogLost);
    }
    state.suppressed = 0;
    event.suppressed = 0;
}

/// Writes a traced packet, if it is one of those that are wanted and this CPU has not written too many.
#[inline(always)]
fn trace(ctx: &TcContext, sight: &mut Sight, kind: Kind) {
    let Some(trace) = maps::TRACE.get(0) else { return };
    let event = &sight.event;
    // SAFETY: makes a random number.
    let lot = unsafe { bpf_get_prandom_u32() };
    if event.at >= trace.deadline || lot > trace.sample || !trace.wants(event, kind) {
        return;
    }
    match sight.traced.take(event.at, &trace.rate) {
        Some(bucket) => sight.traced = bucket,
        None => return report::count(ctx, Reason::TraceSuppressed),
    }
    if maps::TRACES.output(event, BPF_RB_NO_WAKEUP.into()).is_err() {
        report::count(ctx, Reason::TraceLost);
    }
}
