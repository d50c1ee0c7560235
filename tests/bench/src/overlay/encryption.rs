//! What end-to-end encryption costs: one core, data in cache.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nightgate_e2ee::{Inbound, KeyPair, Outbound};
use nightgate_lab::Figure;

use super::figure;

/// Plaintext bytes of a record: a keystroke, a packet, and what streams use.
const RECORD_SIZES: [usize; 4] = [64, 1_420, 16 * 1_024, 64 * 1_024];
/// How long one measurement takes; the best of [`ROUNDS`] counts, because disturbance only slows.
const ROUND: Duration = Duration::from_millis(300);
const ROUNDS: usize = 3;
/// Bytes sealed before they are opened, so that both are measured alone but in cache.
const BATCH: usize = 128 * 1_024;

/// Measures sealing and opening of records, and the key exchange of a circuit.
///
/// # Errors
/// libsodium refuses to start, or a record does not come out as it went in.
pub fn run() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for size in RECORD_SIZES {
        let mut best = (0.0_f64, 0.0_f64);
        for _ in 0..ROUNDS {
            let (seal, open) = seal_and_open(size)?;
            best = (best.0.max(seal), best.1.max(open));
        }
        figures.push(figure(&format!("seal {size} B"), "throughput", best.0, "MB/s", None));
        figures.push(figure(&format!("open {size} B"), "throughput", best.1, "MB/s", None));
    }
    let mut exchanges = 0.0_f64;
    for _ in 0..ROUNDS {
        exchanges = exchanges.max(key_exchanges()?);
    }
    figures.push(figure("key exchange", "rate, both ends", exchanges, "1/s", None));
    Ok(figures)
}

/// Megabytes of plaintext per second of sealing, and of opening.
fn seal_and_open(size: usize) -> Result<(f64, f64)> {
    let (mut outbound, mut inbound) = circuit()?;
    let count = BATCH.div_ceil(size);
    let plaintext = vec![0x5a_u8; size];
    let (mut sealing, mut opening, mut bytes) = (Duration::ZERO, Duration::ZERO, 0_u32);
    while sealing + opening < ROUND {
        let started = Instant::now();
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            records.push(outbound.seal(black_box(&plaintext))?);
        }
        sealing += started.elapsed();
        let started = Instant::now();
        for record in &records {
            let opened = inbound.open(record)?.context("a record without plaintext")?;
            anyhow::ensure!(opened.len() == size, "{size} bytes became {}", opened.len());
            black_box(opened);
        }
        opening += started.elapsed();
        bytes += u32::try_from(size * count)?;
    }
    let megabytes = f64::from(bytes) / 1e6;
    Ok((megabytes / sealing.as_secs_f64(), megabytes / opening.as_secs_f64()))
}

/// Key exchanges per second, the work of both ends added up.
fn key_exchanges() -> Result<f64> {
    let started = Instant::now();
    let mut done = 0_u32;
    while started.elapsed() < ROUND {
        black_box(circuit()?);
        done += 1;
    }
    Ok(f64::from(done) / started.elapsed().as_secs_f64())
}

/// The dialer's outbound and the host's inbound stream.
fn circuit() -> Result<(Outbound, Inbound)> {
    let (dialer, host) = (KeyPair::generate()?, KeyPair::generate()?);
    let (outbound, _) = dialer.dialer_keys(host.public_key())?.into_streams()?;
    let (_, mut inbound) = host.host_keys(dialer.public_key())?.into_streams()?;
    inbound.open(&outbound.header())?;
    Ok((outbound, inbound))
}
