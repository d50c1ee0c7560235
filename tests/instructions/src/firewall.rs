//! What the kernel programs do with a packet that opens a flow, by the same sources: they are not interpreted here, so this
//! is how much there is to do, not what it takes in the kernel.

use std::hint::black_box;

use anyhow::{Context as _, Result, anyhow, ensure};
use nightgate_abi::{
    Group,
    forest::{Progress, Walk},
};
use nightgate_config::parse as parse_config;
use nightgate_lab::classbench::{self, Family};
use nightgate_packet::{Packet, parse};
use nightgate_ruleset::{MapImage, RuleSet, compile};

use crate::{Case, Run};

pub(crate) const CASES: &[Case] = &[
    Case { name: "firewall, read the headers of 16 frames", prepare: headers },
    Case { name: "firewall, look 16 packets up in 1,000 rules", prepare: classify },
];

const RULES: usize = 1_000;
const PACKETS: u8 = 16;

fn headers(_runs: usize) -> Result<Run> {
    let frames = frames();
    Ok(Box::new(move || {
        for frame in black_box(&frames) {
            let packet = parse(&frame.as_slice()).map_err(|reason| anyhow!("{reason}"))?;
            black_box(packet);
        }
        Ok(())
    }))
}

fn classify(_runs: usize) -> Result<Run> {
    let (set, image) = rules()?;
    let zone = |name: &str| set.zones().iter().find(|(zone, _)| zone.as_str() == name);
    let [lan, wan] = ["lan", "wan"].map(|name| zone(name).map(|(_, id)| *id));
    let (lan, wan) = (lan.context("no zone lan")?, wan.context("no zone wan")?);
    let mut subjects = Vec::new();
    for frame in frames() {
        let parsed = parse(&frame.as_slice()).map_err(|reason| anyhow!("{reason}"))?;
        let Packet::Ip(meta) = parsed else { continue };
        subjects.push(meta.subject(lan, wan));
    }
    ensure!(subjects.len() == usize::from(PACKETS), "{} packets", subjects.len());
    Ok(Box::new(move || {
        for subject in black_box(&subjects) {
            let (mut walk, key) = (Walk::new(Group::Filter), subject.key());
            let slot = |walk: &Walk| image.slots().get(walk.wants() as usize);
            while walk.step(slot(&walk), &key, subject) == Progress::Goes {}
            black_box(walk.outcome());
        }
        Ok(())
    }))
}

fn rules() -> Result<(RuleSet, MapImage)> {
    let rules = classbench::yaml(&classbench::rules(Family::AccessList, RULES, 1), "r");
    let text = format!(
        "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n  lan: {{ interfaces: [lan0] }}\n  wan: {{ \
         interfaces: [wan0] }}\nrules:\n{rules}"
    );
    let config = parse_config(&text, "rules.yaml").map_err(|errors| anyhow!("{errors:?}"))?;
    let gateway = config.gateway.context("no gateway")?;
    let set = compile(&gateway).map_err(|errors| anyhow!("{errors:?}"))?;
    let image = set.image();
    Ok((set, image))
}

/// TCP over IPv4 and IPv6 in turn, to different hosts and ports.
fn frames() -> Vec<Vec<u8>> {
    let frame = |number: u8| {
        let ethernet = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let port = u16::from(number) * 61 + 22;
        let [high, low] = port.to_be_bytes();
        let tcp = [0x9c, 0x40, high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
        let source = [10, 1, 0, number];
        let destination = [10, 2, number, 7];
        let header = if number.is_multiple_of(2) {
            [&[8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0][..], &source, &destination].concat()
        } else {
            // 2001:db8::/32 (RFC 3849).
            let net = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0];
            let fixed = [0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64];
            [&fixed[..], &net, &source, &net, &destination].concat()
        };
        [&ethernet[..], &header, &tcp].concat()
    };
    (0..PACKETS).map(frame).collect()
}
