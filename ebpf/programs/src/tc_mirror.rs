//! TC ingress of the mirror's inner device: copies of mirrored packets, in the frames that a wire would carry,
//! leave for their session's sensor in its encapsulation.

mod path;
mod wrap;

use aya_ebpf::{
    bindings::TC_ACT_SHOT,
    btf_maps::{Array, PerCpuArray},
    helpers::generated::{bpf_ktime_get_tai_ns, bpf_skb_change_tail},
    macros::{btf_map, classifier},
    programs::TcContext,
};
use nightgate_abi::{
    Counter,
    mirror::{self, CopyMark, Encapsulation, MirrorSensor, MirrorSession, Outcome},
};
use nightgate_packet::encapsulation::{Envelope, Metadata, spread};

use crate::{hook, maps, stage::mirror::count};
use path::Path;
use wrap::Inner;

#[btf_map]
static MIRROR_SEQUENCES: Array<u64, { mirror::NUMBERS as usize + 1 }> = Array::new();

#[btf_map]
static MIRROR_SENSOR_COUNTERS: PerCpuArray<Counter, { mirror::NUMBERS as usize + 1 }> =
    PerCpuArray::new();

/// A copy, and what is known of it.
struct Copy<'a> {
    ctx: &'a TcContext,
    mark: CopyMark,
    session: &'a MirrorSession,
    sensor: &'a MirrorSensor,
    encapsulation: Encapsulation,
    /// Bytes of the frame that were left out.
    is_cut: bool,
}

#[classifier]
pub(crate) fn tc_mirror(ctx: TcContext) -> i32 {
    let (mark, length) = (CopyMark(hook::mark(&ctx)), ctx.len());
    let (outcome, action) = match send(&ctx, mark) {
        Ok(sent) => sent,
        Err(outcome) => (outcome, TC_ACT_SHOT),
    };
    count(mark.session(), outcome, 1, length);
    action
}

/// Encapsulates and sends a copy. `Ok` says whether the sensor's link address was known.
#[inline(always)]
fn send(ctx: &TcContext, mark: CopyMark) -> Result<(Outcome, i32), Outcome> {
    // SAFETY: the entry is not changed in place: userspace replaces it, and frees the old one only after all
    // programs that may read it (BPF_F_NO_PREALLOC).
    let session = unsafe { maps::MIRROR_SESSIONS.get(mark.session()) }.ok_or(Outcome::NoSession)?;
    let hash = hook::tc_index(ctx) as u16;
    hook::set_tc_index(ctx, 0);
    let number = u32::from(session.sensor_of(hash));
    // SAFETY: as above.
    let sensor = unsafe { maps::MIRROR_SENSORS.get(number) }.ok_or(Outcome::NoSensor)?;
    let is_cut = snap(ctx, session)?;
    let encapsulation = Encapsulation::from_number(sensor.encapsulation);
    let copy = Copy { ctx, mark, session, sensor, encapsulation, is_cut };
    let length = ctx.len();
    let sent = leave(&copy, hash)?;
    count_sensor(number, length);
    Ok(sent)
}

/// Cuts a frame to what its session copies of it. Says whether there was more.
#[inline(always)]
fn snap(ctx: &TcContext, session: &MirrorSession) -> Result<bool, Outcome> {
    if session.snap == 0 || ctx.len() <= session.snap {
        return Ok(false);
    }
    // SAFETY: the context is valid; no pointer into the packet is kept.
    match unsafe { bpf_skb_change_tail(ctx.skb.skb, session.snap, 0) } {
        0 => Ok(true),
        _ => Err(Outcome::EncapsulationFailed),
    }
}

/// Counts a copy that was sent to a sensor.
#[inline(always)]
fn count_sensor(number: u32, length: u32) {
    if let Some(counter) = MIRROR_SENSOR_COUNTERS.get_ptr_mut(number) {
        // SAFETY: the slot belongs to this CPU, and TC programs do not preempt each other on one CPU.
        let counter = unsafe { &mut *counter };
        counter.packets += 1;
        counter.bytes += u64::from(length);
    }
}

/// Puts a copy into its encapsulation, and sends it.
#[inline(always)]
fn leave(copy: &Copy<'_>, hash: u16) -> Result<(Outcome, i32), Outcome> {
    let Copy { ctx, encapsulation, .. } = *copy;
    let inner = Inner::read(copy)?;
    if encapsulation == Encapsulation::Local {
        inner.tag(copy)?;
        ctx.set_mark(mirror::ENCAPSULATED_MARK);
        return path::leave_as_it_is(copy);
    }
    let envelope = Envelope {
        link_destination: [0; 6],
        link_source: [0; 6],
        inner: inner.length,
        hash: spread(hash),
    };
    let path = Path::find(copy, &envelope)?;
    let envelope = Envelope {
        link_destination: path.link_destination(),
        link_source: path.link_source(),
        ..envelope
    };
    inner.wrap(copy, &envelope)?;
    ctx.set_mark(mirror::ENCAPSULATED_MARK);
    Ok(path.leave())
}

impl Copy<'_> {
    /// What is known of the copy; it gets the next sequence number of its session.
    #[inline(always)]
    fn metadata(&self) -> Metadata {
        Metadata {
            session: self.mark.session() as u16,
            direction: self.mark.direction(),
            service: self.mark.service(),
            is_cut: self.is_cut,
            sequence: self.sequence(),
            // SAFETY: reads the clock.
            at: unsafe { bpf_ktime_get_tai_ns() },
        }
    }

    /// Takes the next sequence number of the session.
    #[inline(always)]
    fn sequence(&self) -> u64 {
        let Some(next) = MIRROR_SEQUENCES.get_ptr_mut(self.mark.session()) else { return 0 };
        let mut sequence: u64 = 1;
        // SAFETY: the element is there and aligned; all CPUs add to it atomically.
        unsafe {
            core::arch::asm!(
                "{sequence} = atomic_fetch_add((u64 *)({next} + 0), {sequence})",
                next = in(reg) next,
                sequence = inout(reg) sequence,
                options(nostack),
            );
        }
        sequence
    }
}
