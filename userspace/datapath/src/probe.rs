//! Running the programs on packets that are on no wire.

use std::time::Duration;

use nightgate_abi::{Hook, PROBE_CB, Reason};

use aya::programs::{TestRun as _, TestRunOptions};

use crate::{
    datapath::{self, Datapath, classifier},
    error::DatapathError,
    interface::IfIndex,
};

/// A frame for a program, as if it were on an interface. Counters and the flow table change as for any
/// packet; the frame goes nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// Side of the interface.
    pub hook: Hook,
    /// The interface.
    pub interface: IfIndex,
    /// Interface the frame came in by, for a frame that leaves; `None` if the gateway itself sends it.
    pub received_by: Option<IfIndex>,
    /// The frame from its Ethernet header on, at least 14 bytes: the kernel takes no shorter one.
    pub frame: &'a [u8],
    /// How often to run; at least 1.
    pub repeat: u32,
}

/// What a program did with a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbeResult {
    /// Whether it passed.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Mean time of one run, in whole nanoseconds.
    pub duration: Duration,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// What a program returned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The frame passes.
    Pass,
    /// The frame is refused.
    Drop,
    /// The frame leaves by an interface of the program's choice.
    Redirect,
    /// Another action (`TC_ACT_*` in linux/pkt_cls.h).
    Other(i32),
}

/// By how much a program lengthens a frame at most, in bytes.
const GROWTH: usize = 256;
/// Room for `struct __sk_buff` (linux/bpf.h), which has 192 bytes in Linux 6.18; the kernel takes a longer
/// one whose rest is zero.
const SK_BUFF: usize = 256;
/// Offset of `mark` in it.
const MARK: usize = 8;
/// Offset of `ingress_ifindex` in it.
const INGRESS_IFINDEX: usize = 36;
/// Offset of `ifindex` in it.
const IFINDEX: usize = 40;
/// Offset of `cb` in it.
const CB: usize = 48;

impl Datapath {
    /// Runs a program on a frame (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    /// There is no such interface in the calling thread's network namespace, the frame is too short, or the
    /// kernel refuses.
    pub fn probe(&mut self, probe: &Probe<'_>) -> Result<ProbeResult, DatapathError> {
        self.probe_marked(probe, 0)
    }

    /// As [`Self::probe`], with a packet mark.
    ///
    /// # Errors
    /// Likewise.
    pub fn probe_marked(
        &mut self,
        probe: &Probe<'_>,
        mark: u32,
    ) -> Result<ProbeResult, DatapathError> {
        let mut context = [0; SK_BUFF];
        let ingress = match probe.hook {
            Hook::Ingress => Some(probe.interface),
            Hook::Egress => probe.received_by,
        };
        put(&mut context, MARK, mark);
        put(&mut context, INGRESS_IFINDEX, ingress.map_or(0, IfIndex::get));
        put(&mut context, IFINDEX, probe.interface.get());
        // No reason has this index, so that a program that leaves none is noticed.
        put(&mut context, CB + 4 * PROBE_CB, u32::MAX);
        let mut after = [0; SK_BUFF];
        let mut frame = vec![0; probe.frame.len() + GROWTH];
        let mut options = TestRunOptions::new();
        options.data_in = Some(probe.frame);
        options.data_out = Some(&mut frame);
        options.ctx_in = Some(&context);
        options.ctx_out = Some(&mut after);
        options.repeat = probe.repeat;
        let program = datapath::program(probe.hook);
        let result = classifier(&mut self.ebpf, program)?.test_run(options).map_err(|source| {
            DatapathError::Program { operation: "run", program, source: source.into() }
        })?;
        let verdict = match result.return_value.cast_signed() {
            // TC_ACT_UNSPEC, TC_ACT_OK.
            -1 | 0 => Verdict::Pass,
            // TC_ACT_SHOT.
            2 => Verdict::Drop,
            // TC_ACT_REDIRECT.
            7 => Verdict::Redirect,
            other => Verdict::Other(other),
        };
        let index = get(&after, CB + 4 * PROBE_CB);
        let reason = Reason::from_index(index).ok_or(DatapathError::Reason { program, index })?;
        frame.truncate(usize::try_from(result.data_size_out).unwrap_or(usize::MAX));
        Ok(ProbeResult { verdict, reason, duration: result.duration, frame })
    }
}

fn put(context: &mut [u8; SK_BUFF], offset: usize, value: u32) {
    for (slot, byte) in context.iter_mut().skip(offset).zip(value.to_ne_bytes()) {
        *slot = byte;
    }
}

fn get(context: &[u8; SK_BUFF], offset: usize) -> u32 {
    let bytes = context.get(offset..).and_then(<[u8]>::first_chunk);
    bytes.map_or(u32::MAX, |bytes| u32::from_ne_bytes(*bytes))
}
