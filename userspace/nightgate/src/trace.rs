//! `nightgate fw trace`: packets as they come.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use nightgate_gateway::admin::{self, Request, TraceRequest};
use serde_json::Value;

use crate::observe::ObserveArgs;

/// `nightgate fw trace`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TraceArgs {
    /// Only packets for which all of these hold; may be repeated
    ///
    /// Conditions are KEY=VALUE, separated by blanks: protocol, host, source, destination (an address or prefix), port,
    /// source-port, destination-port, interface, hook (ingress or egress), reason (a word of `fw counters`),
    /// verdict (pass or drop).
    #[arg(long, value_name = "CONDITIONS")]
    filter: Vec<String>,
    /// End after so many packets
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after so long, 1s to 24h
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// One of so many packets, at random: 1/10 or 10
    #[arg(long, value_name = "1/N", default_value = "1/1", value_parser = sample)]
    sample: u32,
    #[command(flatten)]
    observe: ObserveArgs,
}

/// Prints packets until the count, the time or the operator ends it.
pub(crate) async fn trace(args: &TraceArgs) -> anyhow::Result<()> {
    let request = Request::Trace(TraceRequest {
        filter: args.filter.clone(),
        sample: args.sample,
        count: args.count,
        seconds: u32::try_from(args.duration.as_secs()).unwrap_or(u32::MAX),
    });
    let is_json = args.observe.output.is_json();
    let print = |packet: Value| {
        let mut out = io::stdout().lock();
        if is_json {
            writeln!(out, "{packet}")?
        } else {
            writeln!(out, "{}", line(&packet))?
        }
        out.flush()
    };
    let end = match admin::follow(&args.observe.socket, request, print).await {
        Err(admin::AdminClientError::Exchange { source, .. })
            if source.kind() == io::ErrorKind::BrokenPipe =>
        {
            return Ok(());
        }
        end => end?,
    };
    let mut out = io::stderr().lock();
    writeln!(
        out,
        "{} packets, {} more that were too many to tell",
        end["packets"], end["suppressed"]
    )?;
    Ok(())
}

/// A packet in one line.
fn line(packet: &Value) -> String {
    let text = |field: &str| packet[field].as_str().unwrap_or("-").to_owned();
    let time = text("time");
    let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time);
    let zones = [0, 1].map(|index| packet["zones"][index].as_str().unwrap_or("-")).join(" > ");
    let what = match packet["protocol"].as_str() {
        Some(protocol) => {
            let flags = packet["tcp_flags"].as_str().map(|flags| format!(" [{flags}]"));
            format!(
                "{protocol} {} > {}{}",
                text("source"),
                text("destination"),
                flags.unwrap_or_default()
            )
        }
        None => {
            format!("{} {} > {}", text("ether_type"), text("source_mac"), text("destination_mac"))
        }
    };
    format!(
        "{time} {} {} rule {} {} {} ({zones}) {what} {} bytes",
        text("verdict"),
        text("reason"),
        text("rule"),
        text("interface"),
        text("hook"),
        packet["length"],
    )
}

fn sample(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("1/").unwrap_or(text).parse().ok();
    number.filter(|number| *number > 0).ok_or_else(|| "expected 1/N, such as 1/100".into())
}

fn duration(text: &str) -> Result<Duration, String> {
    let is_fit = |time: &Duration| (1..=86_400).contains(&time.as_secs());
    let time = nightgate_config::duration(text).filter(is_fit);
    time.ok_or_else(|| "expected 1s to 24h, such as 30s or 5m".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_one_line() {
        let packet = serde_json::json!({
            "time": "2026-01-02T03:04:05.123456Z", "verdict": "drop", "reason": "rule", "rule": "no-smtp",
            "interface": "lan0", "hook": "ingress", "zones": ["lan", "wan"], "protocol": "tcp",
            "source": "10.1.0.2:4000", "destination": "192.0.2.1:25", "tcp_flags": "S", "length": 54,
        });
        assert_eq!(
            line(&packet),
            "03:04:05.123456Z drop rule rule no-smtp lan0 ingress (lan > wan) tcp 10.1.0.2:4000 > 192.0.2.1:25 [S] \
             54 bytes"
        );
        let broken =
            serde_json::json!({"zones": [null, null], "ether_type": "0x1234", "length": 60});
        assert!(line(&broken).ends_with("(- > -) 0x1234 - > - 60 bytes"), "{}", line(&broken));
    }

    #[test]
    fn samples_and_times_have_their_forms() {
        assert_eq!((sample("1/10"), sample("10")), (Ok(10), Ok(10)));
        assert!(sample("1/0").is_err() && sample("x").is_err());
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("0s").is_err() && duration("25h").is_err() && duration("5").is_err());
    }
}
