//! CPU time of other processes.

use std::fs;

use anyhow::{Context as _, Result};

/// Seconds that a process has used so far: fields 14 and 15 of proc_pid_stat(5), in hundredths.
pub(crate) fn seconds(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let after_name = stat.rsplit_once(')').context("no name")?.1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? as f64 / 100.0)
}
