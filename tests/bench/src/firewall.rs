//! What the kernel firewall costs: program time of one packet, by `BPF_PROG_TEST_RUN`.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use nightgate_abi::Reason;
use nightgate_config::parse;
use nightgate_datapath::{Datapath, Hook, IfIndex, Probe};
use nightgate_lab::{Figure, Namespace};
use nightgate_ruleset::{MapImage, ZoneName, compile};

/// Runs of a program for one measurement.
const REPEAT: u32 = 200_000;
/// The best of these counts, because disturbance only slows.
const ROUNDS: usize = 5;
/// Nanoseconds for a packet of a known flow, whatever the rules.
const ESTABLISHED_TARGET: f64 = 150.0;
/// Nanoseconds for the first packet of a flow against ten rules.
const FIRST_TARGET: f64 = 500.0;

/// TCP flags: SYN, ACK, RST.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

/// Measures established and first packets of both families, against rule sets of several sizes whose last rule
/// matches.
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
    let lan = datapath.attach("lan0", &zone("lan")?)?;
    datapath.attach("wan0", &zone("wan")?)?;
    let mut figures = Vec::new();
    for rules in [1, 10, 64] {
        datapath.commit(&image(rules)?)?;
        for (family, source, destination) in
            [("IPv4", "10.1.0.2", "192.0.2.1"), ("IPv6", "2001:db8:1::2", "2001:db8:9::1")]
        {
            let (source, destination) = (source.parse()?, destination.parse()?);
            let mut time = |port, flags, reason| {
                program_time(&mut datapath, lan, &tcp(source, destination, port, flags), reason)
            };
            // The first run opens the flow, the others belong to it.
            let established = time(9, ACK, Reason::Forwarded)?;
            // A reset closes the flow, and a SYN opens it anew: every run looks the flow up, finds the route,
            // searches the rules and writes the flow.
            let first = time(9, SYN | RST, Reason::Forwarded)?;
            let refused = time(8, SYN, Reason::NoRule)?;
            let case = |what: &str| format!("{what}, {family}, {rules} rules");
            figures.push(figure(case("established packet"), established, Some(ESTABLISHED_TARGET)));
            let target = (rules <= 10).then_some(FIRST_TARGET);
            figures.push(figure(case("first packet, accepted"), first, target));
            figures.push(figure(case("packet without a rule"), refused, None));
        }
    }
    Ok(figures)
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

/// Rules of different kinds, of which only the last matches.
fn image(rules: usize) -> Result<MapImage> {
    let others = (1..rules).map(|number| match number % 3 {
        0 => format!("- {{ id: r{number}, from: wan, to: lan, action: accept }}\n"),
        1 => format!(
            "- {{ id: r{number}, from: lan, to: wan, source: 10.{number}.9.0/24, action: accept }}\n"
        ),
        _ => format!(
            "- {{ id: r{number}, from: lan, to: wan, protocol: tcp, destination_ports: ['{}-{}'], action: \
             drop }}\n",
            1_000 + number,
            2_000 + number
        ),
    });
    let text = format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n  lan: {{ interfaces: [lan0] }}\n  wan: {{ \
         interfaces: [wan0] }}\nrules:\n{}- {{ id: last, from: lan, to: wan, protocol: tcp, destination_ports: \
         [9], action: accept }}\n",
        others.collect::<String>()
    );
    let config = parse(&text, "bench.yaml").map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let gateway = config.gateway.context("a gateway")?;
    Ok(compile(&gateway).map_err(|errors| anyhow::anyhow!("{errors:?}"))?.image())
}

fn zone(name: &str) -> Result<ZoneName> {
    ZoneName::new(name).context("a zone's name")
}

/// A TCP segment without data, from port 40000.
fn tcp(source: IpAddr, destination: IpAddr, port: u8, flags: u8) -> Vec<u8> {
    let segment =
        [0x9c, 0x40, 0, port, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    let header = match (source, destination) {
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
