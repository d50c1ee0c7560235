//! Rule sets that have to be kept in time, or the kernel goes back to those before.

use std::time::Duration;

use aya::programs::{TestRun as _, TestRunOptions};
use nightgate_abi::{Active, Fallback, maps};
use nightgate_ruleset::MapImage;

use crate::{
    datapath::{Datapath, classifier},
    error::DatapathError,
    map::{self, failed},
};

/// The program that starts the kernel's timer.
pub(crate) const TC_FALLBACK: &str = "tc_fallback";
/// Length of the frame that the program is run on and does not look at: the kernel takes no shorter one.
const FRAME: usize = 14;

impl Datapath {
    /// Puts a rule set in force as [`Datapath::commit`] does, for a time: unless [`Datapath::keep`] or another
    /// commit comes before, the kernel goes back to the rules before by itself, whether or not this process
    /// is still there. The first rule set of all stays.
    ///
    /// # Errors
    /// As for [`Datapath::commit`].
    pub fn commit_for(&mut self, image: &MapImage, time: Duration) -> Result<(), DatapathError> {
        let next = self.stage(image)?;
        if self.is_in_force() {
            self.arm(time)?;
        }
        self.put_in_force(image, next)
    }

    /// Keeps a rule set that was put in force for a time.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn keep(&mut self) -> Result<(), DatapathError> {
        self.write_fallback(Fallback::default())
    }

    /// Goes back at once, if a rule set of an earlier process is in force that nobody has kept.
    pub(crate) fn fall_back(&mut self, active: Active) -> Result<Active, DatapathError> {
        let fallback: Fallback = map::array_mut(&mut self.ebpf, maps::FALLBACK)?
            .get(&0, 0)
            .map_err(failed("read", maps::FALLBACK))?;
        let before = fallback.before;
        if fallback.armed == 0 || before.bank() == active.bank() {
            return Ok(active);
        }
        self.keep()?;
        let next = before.in_epoch(active.epoch() + 1);
        self.write_active(next)?;
        tracing::warn!(
            "nobody kept the rules that were in force for a time: went back to those before"
        );
        Ok(next)
    }

    fn arm(&mut self, time: Duration) -> Result<(), DatapathError> {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let fallback =
            Fallback { before: self.active, nanoseconds, armed: 1, ..Fallback::default() };
        self.write_fallback(fallback)?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&[0; FRAME]);
        let result =
            classifier(&mut self.ebpf, TC_FALLBACK)?.test_run(options).map_err(|source| {
                DatapathError::Program {
                    operation: "run",
                    program: TC_FALLBACK,
                    source: source.into(),
                }
            })?;
        match result.return_value.cast_signed() {
            0 => Ok(()),
            error => Err(DatapathError::Timer { error: error.unsigned_abs() }),
        }
    }

    /// Writes what to fall back to, which stops the timer if it runs: the kernel frees a timer whose value is
    /// replaced.
    fn write_fallback(&mut self, fallback: Fallback) -> Result<(), DatapathError> {
        map::array_mut(&mut self.ebpf, maps::FALLBACK)?
            .set(0, fallback, 0)
            .map_err(failed("write", maps::FALLBACK))
    }
}
