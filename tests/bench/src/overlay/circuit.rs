//! What one circuit between two applications carries: controller, router and both ends in this process,
//! on loopback, over real TLS.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nightgate_lab::Figure;
use nightgate_sdk::{BindOptions, Context, DialOptions, EndToEnd, Listener};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Target, network::Network};

/// How long one transfer is counted.
const TRANSFER: Duration = Duration::from_secs(2);
/// Before it is counted: windows and buffers grow.
const WARM_UP: Duration = Duration::from_millis(300);
/// Transfers of each case, in turn; the best counts, because disturbance only slows.
const ROUNDS: usize = 3;
/// Bytes an application writes and reads at once.
const BUFFER: usize = 256 * 1_024;

/// A service, how its circuits are encrypted, and what they should carry at least, in Gbit/s.
const CASES: [(&str, EndToEnd, &str, Option<f64>); 3] = [
    ("sealed", EndToEnd::Native, "circuit, our end-to-end encryption", Some(3.0)),
    ("sealed", EndToEnd::OpenZiti, "circuit, OpenZiti's encryption", Some(1.5)),
    ("plain", EndToEnd::Negotiated, "circuit, not encrypted end to end", None),
];

/// Measures one circuit of each method.
///
/// # Errors
/// Controller or router do not start, or a circuit breaks.
pub fn run() -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let network = Network::start().await?;
        network.create_service("sealed", true).await?;
        network.create_service("plain", false).await?;
        let (host, dialer) = (network.join("host").await?, network.join("dialer").await?);
        let mut best = [0.0_f64; CASES.len()];
        for _ in 0..ROUNDS {
            for (best, (service, end_to_end, ..)) in best.iter_mut().zip(CASES) {
                *best = best.max(transfer(&host, &dialer, service, end_to_end).await?);
            }
        }
        network.stop().await;
        Ok(best.into_iter().zip(CASES).map(|(rate, case)| figure(rate, case)).collect())
    })
}

/// Gigabits of plaintext per second that arrive.
async fn transfer(
    host: &Context,
    dialer: &Context,
    service: &str,
    end_to_end: EndToEnd,
) -> Result<f64> {
    let options = BindOptions { end_to_end, ..BindOptions::default() };
    let listener = host.bind_with(service, options).await?;
    let received = tokio::spawn(receive(listener));
    let options = DialOptions { end_to_end, ..DialOptions::default() };
    let mut stream = dialer.dial_with(service, &options).await?;
    let buffer = vec![0x5a; BUFFER];
    let started = Instant::now();
    while started.elapsed() < WARM_UP + TRANSFER + WARM_UP {
        stream.write_all(&buffer).await?;
    }
    stream.shutdown().await?;
    received.await?
}

async fn receive(mut listener: Listener) -> Result<f64> {
    let (mut stream, _) = listener.accept().await;
    let mut buffer = vec![0; BUFFER];
    let begun = Instant::now();
    let (mut counted, mut since, mut rate) = (0_u64, None, None);
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return rate.context("the transfer ended before it was counted");
        }
        match since {
            None if begun.elapsed() > WARM_UP => since = Some(Instant::now()),
            None => {}
            Some(since) => {
                counted += length as u64;
                let elapsed = Instant::now() - since;
                if rate.is_none() && elapsed > TRANSFER {
                    rate =
                        Some(u32::try_from(counted / 1_000)? as f64 * 8e-6 / elapsed.as_secs_f64());
                }
            }
        }
    }
}

fn figure(rate: f64, (_, _, case, target): (&str, EndToEnd, &str, Option<f64>)) -> Figure {
    super::figure(case, "throughput", rate, "Gbit/s", target.map(Target::AtLeast))
}
