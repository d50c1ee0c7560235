//! What the kernel firewall costs: program time of one packet, by `BPF_PROG_TEST_RUN`.

pub mod intercepted;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nightgate_abi::Reason;
use nightgate_config::parse as parse_config;
use nightgate_datapath::{Datapath, Hook, IfIndex, Probe};
use nightgate_lab::{
    Figure, Namespace,
    classbench::{self, Family, Header, Numbers},
};
use nightgate_packet::{Packet, parse};
use nightgate_ruleset::{MapImage, RuleSet, Verdict, ZoneName, classify, compile};

/// Runs of a program for one measurement.
const REPEAT: u32 = 20_000;
/// The best of these counts, because disturbance only slows.
const ROUNDS: usize = 3;
/// Nanoseconds for a packet of a known flow, whatever the rules.
const ESTABLISHED_TARGET: f64 = 150.0;
/// Rules, and nanoseconds for the first packet of a flow.
const FIRST_TARGETS: [(usize, Option<f64>); 4] =
    [(10, Some(500.0)), (1_000, Some(800.0)), (10_000, Some(1_500.0)), (100_000, None)];
/// Milliseconds from the text of 10,000 rules to their being in force.
const COMMIT_TARGET: f64 = 200.0;
/// MiB that both banks take with 10,000 rules.
const BANKS_TARGET: f64 = 64.0;
/// Packets of different kinds of which a figure is the mean.
const HEADERS: usize = 32;

/// TCP flags: ACK, RST.
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

/// Measures established and first packets against rule sets of ClassBench's three families.
///
/// # Errors
/// The process is not root, the kernel object was not built, or a packet does not become what it should.
pub fn run() -> Result<Vec<Figure>> {
    let namespace = Namespace::new("bench")?;
    prepare(&namespace)?;
    namespace.enter(measure)?
}

fn measure() -> Result<Vec<Figure>> {
    let mut datapath = Datapath::load()?;
    let interfaces =
        [datapath.attach("lan0", &zone("lan")?)?, datapath.attach("wan0", &zone("wan")?)?];
    let mut figures = Vec::new();
    for family in Family::ALL {
        for (count, target) in FIRST_TARGETS {
            let rules = classbench::rules(family, count, 1);
            let text = document(&classbench::yaml(&rules, "r"));
            let begin = Instant::now();
            let (set, image) = compiled(&text)?;
            datapath.commit(&image)?;
            let commit = begin.elapsed().as_secs_f64() * 1e3;
            let case = |what: &str| format!("{what}, {} {count} rules", family.name());
            let [established, first] = packets(&mut datapath, interfaces, &set, &rules)?;
            figures.push(figure(case("established packet"), established, Some(ESTABLISHED_TARGET)));
            figures.push(figure(case("first packet"), first, target));
            let commit_target = (count == 10_000).then_some(COMMIT_TARGET);
            let commit = figure(case("text to active"), commit, commit_target);
            figures.push(Figure { metric: "commit".into(), unit: "ms".into(), ..commit });
            let banks = 2 * size_of_val(image.slots());
            let banks = banks as f64 / f64::from(1 << 20);
            let banks_target = (count == 10_000).then_some(BANKS_TARGET);
            let banks = figure(case("both banks"), banks, banks_target);
            figures.push(Figure { metric: "memory".into(), unit: "MiB".into(), ..banks });
        }
    }
    Ok(figures)
}

/// Mean time of accepted packets: established, and first of their flow.
fn packets(
    datapath: &mut Datapath,
    [lan, wan]: [IfIndex; 2],
    set: &RuleSet,
    rules: &[classbench::Rule],
) -> Result<[f64; 2]> {
    let mut numbers = Numbers(1);
    let (mut established, mut first) = (0.0, 0.0);
    let mut measured = 0;
    while measured < HEADERS {
        let header = classbench::header(rules, &mut numbers);
        // Closed connections are over at once here, so that every run of a RST looks the flow up, finds the route,
        // searches the rules and writes the flow.
        let [known, new] = [ACK, RST].map(|flags| tcp(&header, flags));
        let Ok(Packet::Ip(meta)) = parse(&new.as_slice()) else {
            bail!("malformed packet for {header:?}")
        };
        let zones = [header.from, "wan"].map(zone);
        let [from, to] = zones.map(|name| name.map(|name| set.zones()[&name]));
        if header.protocol != 6 || !matches!(classify(set, from?, to?, &meta), Verdict::Accept(_)) {
            continue;
        }
        let interface = if header.from == "lan" { lan } else { wan };
        // Its originator, answered, sends again: then the flow is established.
        let answer = Header {
            source: header.destination,
            destination: header.source,
            ports: [header.ports[1], header.ports[0]],
            ..header
        };
        for (interface, frame) in [(interface, &known), (wan, &tcp(&answer, ACK))] {
            let probe =
                Probe { hook: Hook::Ingress, interface, received_by: None, frame, repeat: 1 };
            datapath.probe(&probe)?;
        }
        established += program_time(datapath, interface, &known, Reason::Forwarded)?;
        first += program_time(datapath, interface, &new, Reason::Forwarded)?;
        measured += 1;
    }
    Ok([established, first].map(|sum| sum / HEADERS as f64))
}

/// Nanoseconds of one run, the best of several rounds.
fn program_time(
    datapath: &mut Datapath,
    interface: IfIndex,
    frame: &[u8],
    reason: Reason,
) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let probe =
            Probe { hook: Hook::Ingress, interface, received_by: None, frame, repeat: REPEAT };
        let result = datapath.probe(&probe)?;
        ensure!(result.reason == reason, "{} instead of {reason}", result.reason);
        best = best.min(result.duration.as_secs_f64() * 1e9);
    }
    Ok(best)
}

fn figure(case: String, value: f64, target: Option<f64>) -> Figure {
    Figure {
        suite: "firewall".into(),
        case,
        metric: "program time".into(),
        value,
        unit: "ns".into(),
        peer: None,
        target,
        holds: target.map(|target| value <= target),
    }
}

fn prepare(namespace: &Namespace) -> Result<()> {
    namespace.set("net/ipv4/ip_forward", "1")?;
    namespace.set("net/ipv6/conf/all/forwarding", "1")?;
    for (number, interface) in [(1, "lan0"), (2, "wan0")] {
        namespace.ip(&format!("link add {interface} type veth peer name {interface}-far"))?;
        namespace.ip(&format!("link set {interface}-far up"))?;
        namespace.ip(&format!("link set {interface} up"))?;
        namespace.add_address(interface, &format!("10.{number}.0.1/24"))?;
        namespace.add_address(interface, &format!("2001:db8:{number}::1/64"))?;
    }
    namespace.add_route("default", "10.2.0.254")?;
    namespace.add_route("default", "2001:db8:2::fe")
}

fn document(rules: &str) -> String {
    format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n  lan: {{ interfaces: [lan0] }}\n  wan: {{ \
         interfaces: [wan0] }}\nrules:\n{rules}"
    )
}

fn compiled(text: &str) -> Result<(RuleSet, MapImage)> {
    let config = parse_config(text, "bench.yaml").map_err(|errors| anyhow!("{errors:?}"))?;
    let mut gateway = config.gateway.context("a gateway")?;
    gateway.tracking.timeouts.tcp_closing = Duration::ZERO;
    let set = compile(&gateway).map_err(|errors| anyhow!("{errors:?}"))?;
    let image = set.image();
    Ok((set, image))
}

fn zone(name: &str) -> Result<ZoneName> {
    ZoneName::new(name).context("a zone's name")
}

/// A TCP segment without data.
fn tcp(header: &Header, flags: u8) -> Vec<u8> {
    let [[s0, s1], [d0, d1]] = header.ports.map(u16::to_be_bytes);
    let segment = [s0, s1, d0, d1, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    let header = match (header.source, header.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => [
            &[8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0][..],
            &source.octets(),
            &destination.octets(),
        ]
        .concat(),
        (source, destination) => {
            let addresses = [source, destination].map(|address| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            });
            [&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64][..], &addresses.concat()].concat()
        }
    };
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &header, &segment].concat()
}
