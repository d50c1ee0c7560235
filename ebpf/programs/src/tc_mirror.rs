//! TC ingress of the mirror's inner device: copies of mirrored packets, in the frames that a wire would carry,
//! leave for their session's sensor in its encapsulation.

mod path;
mod wrap;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_NO_PREALLOC, TC_ACT_SHOT},
    btf_maps::{Array, HashMap},
    helpers::generated::bpf_ktime_get_tai_ns,
    macros::{btf_map, classifier},
    programs::TcContext,
};
use nightgate_abi::mirror::{self, CopyMark, Encapsulation, MirrorSession, Outcome};
use nightgate_packet::{
    Packet, Part,
    encapsulation::{Envelope, Metadata, hash},
    parse,
};

use crate::{frame::TcFrame, hook, stage::mirror::count};
use path::Path;
use wrap::Inner;

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
static MIRROR_SEQUENCES: Array<u64, { mirror::SESSIONS as usize + 1 }> = Array::new();

/// A copy, and what is known of it.
struct Copy<'a> {
    ctx: &'a TcContext,
    mark: CopyMark,
    session: &'a MirrorSession,
    encapsulation: Encapsulation,
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
    let session = unsafe { MIRROR_SESSIONS.get(mark.session()) }.ok_or(Outcome::NoSession)?;
    let encapsulation = Encapsulation::from_number(session.sensor.encapsulation);
    let copy = Copy { ctx, mark, session, encapsulation };
    let inner = Inner::read(&copy)?;
    if encapsulation == Encapsulation::Local {
        inner.tag(&copy)?;
        ctx.set_mark(mirror::ENCAPSULATED_MARK);
        return path::leave_as_it_is(&copy);
    }
    let envelope = Envelope {
        link_destination: [0; 6],
        link_source: [0; 6],
        inner: inner.length,
        hash: nightgate_mirror_hash(ctx.skb.skb),
    };
    let path = Path::find(&copy, &envelope)?;
    let envelope = Envelope {
        link_destination: path.link_destination(),
        link_source: path.link_source(),
        ..envelope
    };
    inner.wrap(&copy, &envelope)?;
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

/// The hash of the copy's flow; packets without a flow share one. Fragments have that of a flow without ports, all of a
/// packet alike. A global function in the object, which the verifier looks at once by itself (Linux 5.6): it need not
/// follow each way through the parser to the end of the program.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn nightgate_mirror_hash(skb: *mut __sk_buff) -> u64 {
    match parse(&TcFrame(&TcContext::new(skb))) {
        Ok(Packet::Ip(mut meta)) => {
            if meta.fragment.part != Part::Whole {
                (meta.source_port, meta.destination_port) = (0, 0);
            }
            hash(&meta.flow_key().0)
        }
        Ok(Packet::Arp | Packet::NeighbourDiscovery) | Err(_) => 0,
    }
}
