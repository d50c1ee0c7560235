//! Copies on their way to their session's sensor, in its encapsulation.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::{bpf_ktime_get_tai_ns, bpf_skb_change_tail},
    programs::TcContext,
};
use nightgate_abi::mirror::{self, CopyMark, Encapsulation, MirrorSensor, MirrorSession, Outcome};
use nightgate_packet::encapsulation::{Envelope, Metadata, spread};

use super::{
    copying::{count, device},
    maps,
    path::Path,
    wrap::Inner,
};
use crate::{hook, word};

/// A copy, and what is known of it.
pub(super) struct Copy<'a> {
    pub(super) ctx: &'a TcContext,
    pub(super) mark: CopyMark,
    pub(super) session: &'a MirrorSession,
    pub(super) sensor: &'a MirrorSensor,
    pub(super) encapsulation: Encapsulation,
    /// Bytes of the frame that were left out.
    pub(super) is_cut: bool,
}

/// Where the program is.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    /// Behind the barrier, where copies are frames.
    Behind,
    /// Before it, where they are as the gateway got them.
    Before,
}

/// Sends a copy on from one end of the mirror's pair of interfaces, and counts what becomes of it.
#[inline(always)]
pub(crate) fn send_on(ctx: &TcContext) -> i32 {
    let mark = CopyMark(hook::mark(ctx));
    let (length, frames) = (ctx.len(), hook::segments(ctx));
    let place = place(ctx);
    let outcome = match prepare(ctx, mark, place) {
        Ok(ready) => match ready.leave() {
            Ok((outcome, action)) => {
                count(mark.session(), outcome, frames, length);
                count_sensor(ready.number, frames, length);
                return action;
            }
            // The program that has made the copy is told, and counts it.
            Err(_) if place == Place::Before => return TC_ACT_SHOT,
            Err(outcome) => outcome,
        },
        // As it is, through the barrier. What is wrong with it is counted behind that.
        Err(_) if place == Place::Before => return TC_ACT_UNSPEC,
        Err(outcome) => outcome,
    };
    count(mark.session(), outcome, frames, length);
    TC_ACT_SHOT
}

#[inline(always)]
fn place(ctx: &TcContext) -> Place {
    if device() == hook::ifindex(ctx) { Place::Before } else { Place::Behind }
}

/// A copy on which nothing has been changed yet, except that it is no longer than its session wants, and the way that it
/// is going to take.
struct Ready<'a> {
    copy: Copy<'a>,
    inner: Inner,
    envelope: Envelope,
    path: Path,
    /// Of its sensor.
    number: u32,
}

/// Finds out where a copy goes.
///
/// # Errors
/// It goes nowhere from here.
#[inline(always)]
fn prepare<'a>(ctx: &'a TcContext, mark: CopyMark, place: Place) -> Result<Ready<'a>, Outcome> {
    // SAFETY: the entry is not changed in place: userspace replaces it, and frees the old one only after all
    // programs that may read it (BPF_F_NO_PREALLOC).
    let session = unsafe { maps::MIRROR_SESSIONS.get(mark.session()) }.ok_or(Outcome::NoSession)?;
    let hash = hook::tc_index(ctx) as u16;
    let number = u32::from(session.sensor_of(hash));
    // SAFETY: as above.
    let sensor = unsafe { maps::MIRROR_SENSORS.get(number) }.ok_or(Outcome::NoSensor)?;
    match place {
        Place::Before if !sensor.takes_segments(session) => return Err(Outcome::NotSegmented),
        Place::Behind if hook::is_segment(ctx) => return Err(Outcome::NotSegmented),
        Place::Before | Place::Behind => {}
    }
    let is_cut = snap(ctx, session)?;
    let encapsulation = Encapsulation::from_number(sensor.encapsulation);
    let copy = Copy { ctx, mark, session, sensor, encapsulation, is_cut };
    let inner = Inner::read(&copy)?;
    let envelope = Envelope {
        link_destination: [0; 6],
        link_source: [0; 6],
        inner: inner.length,
        hash: spread(hash),
    };
    let path = Path::find(&copy, &envelope)?;
    // The kernel's neighbour table would let it go on by the route of the packet that it is a copy of, which it has
    // until it has passed the barrier.
    if place == Place::Before && !path.is_resolved() {
        return Err(Outcome::NoNeighbour);
    }
    Ok(Ready { copy, inner, envelope, path, number })
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
fn count_sensor(number: u32, frames: u32, length: u32) {
    if let Some(counter) = maps::MIRROR_SENSOR_COUNTERS.get_ptr_mut(number) {
        // SAFETY: the slot belongs to this CPU, and TC programs do not preempt each other on one CPU.
        let counter = unsafe { &mut *counter };
        counter.packets += u64::from(frames);
        counter.bytes += u64::from(length);
    }
}

impl Ready<'_> {
    /// Puts the copy into its encapsulation, and sends it.
    #[inline(always)]
    fn leave(&self) -> Result<(Outcome, i32), Outcome> {
        let Self { copy, inner, path, .. } = self;
        if copy.encapsulation == Encapsulation::Local {
            inner.tag(copy)?;
        } else {
            let envelope = Envelope {
                link_destination: path.link_destination(),
                link_source: path.link_source(),
                ..self.envelope
            };
            inner.wrap(copy, &envelope)?;
        }
        path.check_length(copy)?;
        hook::set_tc_index(copy.ctx, 0);
        copy.ctx.set_mark(mirror::ENCAPSULATED_MARK);
        Ok(path.leave())
    }
}

impl Copy<'_> {
    /// What is known of the copy; it gets the next sequence number of its session.
    #[inline(always)]
    pub(super) fn metadata(&self) -> Metadata {
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
    pub(super) fn sequence(&self) -> u64 {
        let Some(next) = maps::MIRROR_SEQUENCES.get_ptr_mut(self.mark.session()) else { return 0 };
        // SAFETY: the element is there and aligned.
        unsafe { word::add(next, 1) }
    }
}
