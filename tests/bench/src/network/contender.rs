//! What filters.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, anyhow};
use nightgate_config::parse;
use nightgate_datapath::Datapath;
use nightgate_lab::{run, temporary_folder};
use nightgate_ruleset::{ZoneName, compile};

use super::topology::{CLIENT, GATEWAY, OUTSIDE, PORT, Topology};

/// Who is measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum Contender {
    /// No filter at all.
    Nothing,
    /// Connection tracking, and a set that is looked up by hash.
    Nftables,
    /// This project.
    Nightgate,
}

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Job {
    /// Accept packets for the gateway by one of 1,000 rules.
    Accept,
    /// Forward connections.
    Forward,
    /// Forward connections with the gateway's address.
    Masquerade,
}

/// Rules before the one that accepts the packets.
const OTHER_RULES: u32 = 999;

/// A filter in a gateway. It ends with the gateway's namespace, or when dropped.
#[derive(Debug)]
pub(super) struct Filter {
    _datapath: Option<Datapath>,
}

impl Filter {
    /// Puts a filter in force.
    pub(super) fn install(contender: Contender, job: Job, topology: &Topology) -> Result<Self> {
        let datapath = match contender {
            Contender::Nothing => None,
            Contender::Nftables => {
                let folder = temporary_folder()?;
                let file = folder.path().join("rules.nft");
                std::fs::write(&file, nftables(job)).context("write the rules of nftables")?;
                run(topology.gateway.command("nft").arg("-f").arg(&file))?;
                None
            }
            Contender::Nightgate => Some(topology.gateway.enter(|| nightgate(job))??),
        };
        Ok(Self { _datapath: datapath })
    }
}

fn nightgate(job: Job) -> Result<Datapath> {
    let mut datapath = Datapath::load()?;
    for (interface, zone, address) in [("lan0", "lan", GATEWAY), ("wan0", "wan", OUTSIDE)] {
        let index = datapath.attach(interface, &ZoneName::new(zone).context("a zone's name")?)?;
        datapath.set_addresses(index, &[address.parse().context("an address")?])?;
    }
    let config = parse(&document(job), "bench.yaml").map_err(|errors| anyhow!("{errors:?}"))?;
    let set =
        compile(&config.gateway.context("a gateway")?).map_err(|errors| anyhow!("{errors:?}"))?;
    datapath.commit(&set.image())?;
    Ok(datapath)
}

fn document(job: Job) -> String {
    let mut text =
        "version: 1\nrouter: { identity: gw.json }\nzones:\n  lan: { interfaces: [lan0] }\n  \
                    wan: { interfaces: [wan0] }\nrules:\n"
            .to_owned();
    match job {
        Job::Accept => {
            let rule = |number: u32, source: &str, port| {
                format!(
                    "- {{ id: r{number}, from: lan, to: local, source: {source}, protocol: udp, \
                     destination_ports: [{port}], action: accept }}\n"
                )
            };
            for (number, (source, port)) in (0..).zip(other_hosts()) {
                text.push_str(&rule(number, &source, port));
            }
            text.push_str(&rule(OTHER_RULES, CLIENT, PORT));
        }
        Job::Forward | Job::Masquerade => {
            _ = writeln!(
                text,
                "- {{ id: tcp, from: lan, to: wan, protocol: tcp, destination_ports: [{PORT}], action: accept }}"
            );
        }
    }
    match job {
        Job::Masquerade => text.push_str(
            "nat:\n  source:\n    - { id: out, from: lan, to: wan, becomes: masquerade }\n",
        ),
        Job::Accept | Job::Forward => {}
    }
    text
}

fn nftables(job: Job) -> String {
    let body = match job {
        Job::Accept => {
            let mut elements = format!("{CLIENT} . {PORT}");
            for (source, port) in other_hosts() {
                _ = write!(elements, ", {source} . {port}");
            }
            format!(
                "set allowed {{ type ipv4_addr . inet_service; elements = {{ {elements} }} }}\n\
                 chain input {{ type filter hook input priority filter; policy drop;\n\
                 ct state established,related accept\n\
                 iifname lan0 ip saddr . udp dport @allowed accept; }}\n"
            )
        }
        Job::Forward | Job::Masquerade => format!(
            "chain forward {{ type filter hook forward priority filter; policy drop;\n\
             ct state established,related accept\n\
             iifname lan0 oifname wan0 tcp dport {PORT} accept; }}\n"
        ),
    };
    let nat = match job {
        Job::Masquerade => {
            "chain out { type nat hook postrouting priority srcnat; oifname wan0 masquerade; }\n"
        }
        Job::Accept | Job::Forward => "",
    };
    format!("table inet bench {{\n{body}{nat}}}\n")
}

/// Hosts and ports of the other rules.
fn other_hosts() -> impl Iterator<Item = (String, u16)> {
    (0..OTHER_RULES).map(|number| {
        let port = 1_000 + u16::try_from(number % 500).unwrap_or_default();
        (format!("10.1.{}.{}", 1 + number / 250, 1 + number % 250), port)
    })
}
