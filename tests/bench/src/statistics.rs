//! From many measurements to one figure.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use anyhow::Result;

/// The one in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which so many percent of the others are.
pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get(last * percent / 100).copied().unwrap_or(f64::NAN)
}

/// Mbit/s that arrive during `time`, after a run-up that does not count.
///
/// # Errors
/// The connection fails.
pub(crate) fn speed(mut stream: impl Read, run_up: Duration, time: Duration) -> Result<f64> {
    let mut chunk = vec![0; CHUNK];
    let mut received = 0_u64;
    let mut start = Instant::now();
    let mut has_run_up = false;
    loop {
        received += stream.read(&mut chunk)? as u64;
        let elapsed = start.elapsed();
        if !has_run_up && elapsed >= run_up {
            (has_run_up, received, start) = (true, 0, Instant::now());
        } else if has_run_up && elapsed >= time {
            return Ok(received as f64 * 8.0 / elapsed.as_secs_f64() / 1e6);
        }
    }
}

/// Bytes of a read.
const CHUNK: usize = 128 * 1_024;
