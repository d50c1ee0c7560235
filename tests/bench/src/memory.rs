//! What the kernel keeps for the firewall.

use std::{collections::BTreeMap, fs, net::Ipv4Addr};

use anyhow::{Context as _, Result, anyhow, ensure};
use nightgate_abi::{Reason, limits};
use nightgate_config::parse;
use nightgate_datapath::{Datapath, Hook, IfIndex, Probe};
use nightgate_lab::{
    Figure, Namespace,
    classbench::{Family, rules, yaml},
};
use nightgate_ruleset::{ZoneName, compile};

/// MiB without rules and flows, with 10,000 rules, with a full table of flows.
const TARGETS: [f64; 3] = [32.0, 64.0, 96.0];
/// Rules of the second figure.
const RULES: usize = 10_000;

/// Measures the memory of all maps of a gateway.
///
/// # Errors
/// The process is not root, the kernel object was not built, or the kernel does not say.
pub fn run() -> Result<Vec<Figure>> {
    let namespace = Namespace::new("memory")?;
    namespace.set("net/ipv4/ip_forward", "1")?;
    for (number, interface) in [(1, "lan0"), (2, "wan0")] {
        namespace.ip(&format!("link add {interface} type veth peer name {interface}-far"))?;
        namespace.ip(&format!("link set {interface}-far up"))?;
        namespace.ip(&format!("link set {interface} up"))?;
        namespace.add_address(interface, &format!("10.{number}.0.1/24"))?;
    }
    namespace.add_route("default", "10.2.0.254")?;
    namespace.enter(measure)?
}

fn measure() -> Result<Vec<Figure>> {
    let others = maps()?;
    let mut datapath = Datapath::load()?;
    let mut lan = None;
    for (interface, zone) in [("lan0", "lan"), ("wan0", "wan")] {
        let index = datapath.attach(interface, &ZoneName::new(zone).context("a zone's name")?)?;
        lan = lan.or(Some(index));
    }
    let open = "- { id: open, from: lan, to: wan, action: accept }\n";
    let mut figures = Vec::new();
    let few = commit(&mut datapath, open)?;
    figures.push(figure("empty", in_use(&others)? + 2 * few, TARGETS[0]));
    let many = yaml(&rules(Family::AccessList, RULES - 1, 1), "r");
    let banks = (0..2).try_fold(0, |_, _| commit(&mut datapath, &format!("{open}{many}")))?;
    figures.push(figure("10,000 rules", in_use(&others)? + 2 * banks, TARGETS[1]));
    fill(&mut datapath, lan.context("an interface")?)?;
    let case = format!("10,000 rules, {} flows", limits::FLOWS);
    figures.push(figure(&case, in_use(&others)? + 2 * banks, TARGETS[2]));
    Ok(figures)
}

/// Puts rules in force; returns the bytes of their bank, which nobody but the kernel holds.
fn commit(datapath: &mut Datapath, rules: &str) -> Result<u64> {
    let text = format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n  lan: {{ interfaces: [lan0] }}\n  wan: {{ \
         interfaces: [wan0] }}\nrules:\n{rules}"
    );
    let config = parse(&text, "bench.yaml").map_err(|errors| anyhow!("{errors:?}"))?;
    let set =
        compile(&config.gateway.context("a gateway")?).map_err(|errors| anyhow!("{errors:?}"))?;
    let image = set.image();
    datapath.commit(&image)?;
    Ok(size_of_val(image.slots()) as u64)
}

/// Makes as many flows as the table holds, each with an answer and a second packet.
fn fill(datapath: &mut Datapath, lan: IfIndex) -> Result<()> {
    let wan = IfIndex::of("wan0")?;
    let client = Ipv4Addr::new(10, 1, 0, 2);
    for number in 0..u32::try_from(limits::FLOWS)? {
        let server = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 0, 0, 0)) + number);
        let (there, back) = (udp(client, server), udp(server, client));
        for (interface, frame) in [(lan, &there), (wan, &back), (lan, &there)] {
            let probe =
                Probe { hook: Hook::Ingress, interface, received_by: None, frame, repeat: 1 };
            let reason = datapath.probe(&probe)?.reason;
            ensure!(reason == Reason::Forwarded, "a packet to {server}: {reason}");
        }
    }
    Ok(())
}

fn udp(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let ethernet = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    let udp = [0x1b, 0x58, 0x1b, 0x58, 0, 8, 0, 0];
    [&ethernet[..], &ip, &source.octets(), &destination.octets(), &udp].concat()
}

/// Bytes of the maps that this process holds, but for some.
fn in_use(others: &BTreeMap<u32, u64>) -> Result<u64> {
    let is_ours = |(id, _): &(u32, u64)| !others.contains_key(id);
    Ok(maps()?.into_iter().filter(is_ours).map(|(_, bytes)| bytes).sum())
}

/// Maps that this process holds, by number, with their bytes: `map_id` and `memlock` in /proc/self/fdinfo.
fn maps() -> Result<BTreeMap<u32, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo").context("list the process's files")? {
        // One that was closed meanwhile is no map.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        if let (Some(id), Some(bytes)) = (field("map_id"), field("memlock")) {
            found.insert(u32::try_from(id)?, bytes);
        }
    }
    Ok(found)
}

fn figure(case: &str, bytes: u64, target: f64) -> Figure {
    let value = bytes as f64 / f64::from(1 << 20);
    Figure {
        suite: "firewall".into(),
        case: format!("kernel memory, {case}"),
        metric: "maps".into(),
        value,
        unit: "MiB".into(),
        peer: None,
        target: Some(target),
        holds: Some(value <= target),
    }
}
