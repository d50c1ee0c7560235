//! How many instructions hot paths take, beside what was accepted last. Userspace is counted by valgrind, whose CPU is the
//! same on every machine that has AES and AVX2; of kernel programs it is what the object holds.

mod baseline;
mod count;

use anyhow::Result;

use self::baseline::{Baseline, Comparison};
use crate::workspace::Workspace;

/// Counts, and compares with `tests/instructions/baseline.txt`. Nothing is counted on a CPU that valgrind cannot give a
/// program: then that is the only note.
///
/// # Errors
/// Something cannot be built or counted.
pub(crate) fn check(workspace: &Workspace) -> Result<Comparison> {
    if let Some(reason) = count::obstacle() {
        return Ok(Comparison { problems: Vec::new(), notes: vec![reason] });
    }
    let accepted = Baseline::read(workspace)?;
    Ok(accepted.compare(&count::all(workspace)?))
}

/// Counts, and accepts what comes out.
///
/// # Errors
/// Something cannot be built or counted, or the baselines cannot be written.
pub(crate) fn accept(workspace: &Workspace) -> Result<()> {
    if let Some(reason) = count::obstacle() {
        anyhow::bail!(reason);
    }
    count::all(workspace)?.write(workspace)
}
