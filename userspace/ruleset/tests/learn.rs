//! Proposed rules accept exactly what has been seen.

use std::collections::BTreeSet;

use nightgate_config::parse;
use nightgate_packet::PacketMeta;
use nightgate_ruleset::{Observed, RuleSet, Verdict, ZoneId, classify, compile, propose};
use proptest::prelude::*;

mod world;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn proposals_accept_the_flows_seen_and_no_others(seen in prop::collection::vec(any::<prop::sample::Index>(), 0..60)) {
        let packets = world::every_packet();
        let (_, zones) = world::rules_of_two_zones(&[]);
        let observe = |packet: &(ZoneId, ZoneId, PacketMeta)| observed(&zones, packet);
        let seen: BTreeSet<Observed> =
            seen.iter().map(|index| observe(&packets[index.index(packets.len())])).collect();
        let rules = rules_of(&seen);
        for packet in &packets {
            let (from, to, meta) = packet;
            let accepts = matches!(classify(&rules, *from, *to, meta), Verdict::Accept(_));
            prop_assert_eq!(accepts, seen.contains(&observe(packet)), "{:?}", packet);
        }
        prop_assert!(rules.rules().len() <= seen.len());
    }
}

fn observed(zones: &RuleSet, (from, to, packet): &(ZoneId, ZoneId, PacketMeta)) -> Observed {
    let zone = |zone| zones.zone_name(zone).expect("a zone").clone();
    Observed {
        from: zone(*from),
        to: zone(*to),
        protocol: packet.protocol,
        // The identifier of an ICMP query is no service.
        port: if [6, 17].contains(&packet.protocol) { packet.destination_port } else { 0 },
        source: packet.source.to_ip(),
        destination: packet.destination.to_ip(),
    }
}

fn rules_of(seen: &BTreeSet<Observed>) -> RuleSet {
    let rules: String = propose(seen)
        .iter()
        .enumerate()
        .map(|(n, proposal)| proposal.yaml(&format!("learned-{n}")))
        .collect();
    let rules = if rules.is_empty() { "  []".into() } else { rules };
    let text = format!(
        "version: 1\nrouter: {{ identity: a }}\nzones: {{ lan: {{ interfaces: [l] }}, wan: {{ interfaces: [w] }} \
         }}\nrules:\n{rules}\n"
    );
    let config =
        parse(&text, "learned.yaml").unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    compile(&config.gateway.expect("a gateway")).expect("within the limits")
}
