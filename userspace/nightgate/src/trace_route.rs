//! `nightgate trace-route`: who is on the way to a service.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use nightgate_sdk::{Context, Stream};
use serde::Serialize;

use crate::{
    identity_file,
    output::{OutputArgs, Table},
};

/// Most hops of a way.
const MAX_HOPS: u32 = 64;

/// Questions to each hop; the fastest answer counts.
const QUESTIONS: usize = 3;

/// `nightgate trace-route`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A circuit is made as by any program, and the routers on its way are asked one after the other, over the links that it takes.
Each time is that from here to that router and back, the fastest of three. `nightgate fabric routers` has the names of the ids.

Example:
  nightgate trace-route alice.json web")]
pub(crate) struct TraceRouteArgs {
    /// Identity file of who dials, as `nightgate enroll` wrote it
    identity: PathBuf,
    /// Name of the service
    service: String,
    /// Dial the host of this name, if several host the service
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// One router on the way.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Hop {
    hop: u32,
    router: String,
    kind: String,
    round_trip_us: u64,
}

impl TraceRouteArgs {
    /// Prints the way.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let identity = identity_file::load(&self.identity)?;
        let context = Context::load(&identity).await.context("join the overlay")?;
        let stream = match &self.host {
            Some(host) => context.dial_identity(&self.service, host).await?,
            None => context.dial(&self.service).await?,
        };
        let hops = hops(&stream).await?;
        self.output.print(&hops, |hops| {
            hops.iter().fold(
                Table::new(&["hop", "router", "kind", "round trip, us"]),
                |table, hop| {
                    let (number, time) = (hop.hop.to_string(), hop.round_trip_us.to_string());
                    table.row([&number, &hop.router, &hop.kind, &time])
                },
            )
        })
    }
}

async fn hops(stream: &Stream) -> anyhow::Result<Vec<Hop>> {
    let mut hops = Vec::new();
    for number in 1..=MAX_HOPS {
        let mut fastest: Option<(Duration, nightgate_sdk::TracedHop)> = None;
        for _ in 0..QUESTIONS {
            let hop = stream.trace(number).await.with_context(|| format!("ask hop {number}"))?;
            if hop.is_beyond {
                return Ok(hops);
            }
            if fastest.as_ref().is_none_or(|(time, _)| hop.round_trip < *time) {
                fastest = Some((hop.round_trip, hop));
            }
        }
        if let Some((time, hop)) = fastest {
            let round_trip_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            hops.push(Hop { hop: number, router: hop.router, kind: hop.kind, round_trip_us });
        }
    }
    Ok(hops)
}
