//! Flows: one entry for both directions, judged again when the rules change, bound to their zones.

use nightgate_abi::{
    Counter,
    Reason::{Forwarded, Local, NoRule, Rule, Sent, UnknownZone, ZoneMismatch},
    flow::Phase,
};
use nightgate_datapath::FlowEntry;
use nightgate_datapath_tests::{LAN, PLAIN, WAN, World, frame::*, with_world};
use tcp_flags::{ACK, FIN, RST, SYN};

const WEB: &str =
    "- { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [80], action: accept }";
const NO_WEB: &str =
    "- { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [80], action: drop }";

#[test]
fn answers_pass_without_a_rule_and_count_in_their_direction() {
    for (client, server) in
        [("10.1.0.2:4000", "192.0.2.1:80"), ("[2001:db8:1::2]:4000", "[2001:db8:9::1]:80")]
    {
        with_world(WEB, |world| {
            let (syn, answer) = (tcp(client, server, SYN), tcp(server, client, SYN | ACK));
            assert_eq!(world.receive(WAN, &answer).reason, NoRule);
            assert_eq!(world.receive(LAN, &syn).reason, Forwarded);
            assert_eq!(world.forward(LAN, WAN, &syn).reason, Sent);
            assert_eq!(world.receive(WAN, &answer).reason, Forwarded);
            assert_eq!(world.forward(WAN, LAN, &answer).reason, Sent);
            assert_eq!(world.receive(LAN, &tcp(client, server, ACK)).reason, Forwarded);

            let flow = only_flow(world);
            let bytes = syn.len() as u64;
            assert_eq!(flow.origin.address.to_string(), client);
            assert_eq!(flow.responder.address.to_string(), server);
            assert_eq!(flow.origin.sent, Counter { packets: 2, bytes: 2 * bytes });
            assert_eq!(flow.responder.sent, Counter { packets: 1, bytes });
            assert_eq!(flow.origin.zone.as_ref().map(|zone| zone.as_str()), Some("lan"));
            assert_eq!(flow.responder.zone.as_ref().map(|zone| zone.as_str()), Some("wan"));
            assert_eq!(flow.rule.as_ref().map(|rule| rule.as_str()), Some("web"));
            assert_eq!((flow.protocol, flow.service, flow.mirror_session), (6, None, None));
            assert_eq!(flow.phase, Phase::Established);
            assert!(flow.first_seen != 0 && flow.first_seen <= flow.last_seen);
            assert_eq!(rule_packets(world), [("web".to_owned(), 3)]);
        });
    }
}

#[test]
fn a_flow_that_is_killed_begins_anew() {
    with_world(WEB, |world| {
        let there = "10.1.0.2:4000";
        for server in ["192.0.2.1:80", "192.0.2.2:80"] {
            assert_eq!(world.receive(LAN, &tcp(there, server, SYN)).reason, Forwarded);
        }
        let is_first = |flow: &FlowEntry| flow.responder.address.to_string() == "192.0.2.1:80";
        assert_eq!(world.datapath.kill_flows(is_first).expect("killed"), 1);
        assert!(!is_first(&only_flow(world)));
        assert_eq!(world.receive(WAN, &tcp("192.0.2.1:80", there, SYN | ACK)).reason, NoRule);
        assert_eq!(world.receive(LAN, &tcp(there, "192.0.2.1:80", SYN)).reason, Forwarded);
        assert_eq!(world.datapath.kill_flows(|_| true).expect("killed"), 2);
        assert_eq!(world.datapath.flows().expect("flows"), []);
    });
}

#[test]
fn the_gateways_own_flows_are_answered_too() {
    with_world("- { id: own, from: local, to: wan, action: accept }", |world| {
        let (there, back) = ("10.2.0.1:500", "192.0.2.1:443");
        assert_eq!(world.receive(WAN, &udp(back, there)).reason, NoRule);
        assert_eq!(world.send(WAN, &udp(there, back)).reason, Sent);
        assert_eq!(world.receive(WAN, &udp(back, there)).reason, Local);
        let flow = only_flow(world);
        assert_eq!(flow.interface, None);
        assert_eq!(flow.origin.zone.map(|zone| zone.to_string()).as_deref(), Some("local"));
        assert_eq!((flow.origin.sent.packets, flow.responder.sent.packets), (1, 1));
    });
}

#[test]
fn echo_answers_belong_to_their_request() {
    let rule = "- { id: ping, from: lan, to: wan, action: accept }";
    for (host, far, request, reply) in
        [("10.1.0.2", "192.0.2.1", 8, 0), ("2001:db8:1::2", "2001:db8:9::1", 128, 129)]
    {
        with_world(rule, |world| {
            assert_eq!(world.receive(LAN, &icmp(host, far, request, 7)).reason, Forwarded);
            assert_eq!(world.receive(WAN, &icmp(far, host, reply, 8)).reason, NoRule);
            assert_eq!(world.receive(WAN, &icmp(far, host, reply, 7)).reason, Forwarded);
        });
    }
}

#[test]
fn flows_are_judged_again_in_a_new_epoch() {
    with_world(WEB, |world| {
        let (there, back) = ("10.1.0.2:4000", "192.0.2.1:80");
        world.receive(LAN, &tcp(there, back, SYN));
        world.receive(WAN, &tcp(back, there, SYN | ACK));

        // The same rules: the flow goes on, whichever end sends first.
        world.commit(WEB);
        assert_eq!(only_flow(world).rule, None, "not judged yet");
        assert_eq!(world.receive(WAN, &tcp(back, there, ACK)).reason, Forwarded);
        let flow = only_flow(world);
        assert_eq!((flow.origin.sent.packets, flow.responder.sent.packets), (1, 2));
        assert_eq!(flow.origin.address.to_string(), there);

        // A rule that refuses it now refuses both directions, and forgets it.
        world.commit(NO_WEB);
        assert_eq!(world.receive(WAN, &tcp(back, there, ACK)).reason, Rule);
        assert_eq!(world.datapath.flows().expect("flows"), []);
        assert_eq!(world.receive(WAN, &tcp(back, there, ACK)).reason, NoRule);
        assert_eq!(world.receive(LAN, &tcp(there, back, ACK)).reason, Rule);

        // No rule at all, likewise.
        world.commit(WEB);
        assert_eq!(world.receive(LAN, &tcp(there, back, ACK)).reason, Forwarded);
        world.commit(" []");
        assert_eq!(world.receive(LAN, &tcp(there, back, ACK)).reason, NoRule);
    });
}

#[test]
fn flows_of_the_gateway_are_judged_again_from_either_side() {
    let rules = "- { id: own, from: local, to: wan, action: accept }\n- { id: dns, from: lan, to: local, action: accept }";
    with_world(rules, |world| {
        let (own, far) = ("10.2.0.1:500", "192.0.2.1:443");
        let (host, dns) = ("10.1.0.2:600", "10.1.0.1:53");
        world.send(WAN, &udp(own, far));
        world.receive(LAN, &udp(host, dns));
        world.commit(rules);
        assert_eq!(world.receive(WAN, &udp(far, own)).reason, Local);
        assert_eq!(world.send(LAN, &udp(dns, host)).reason, Sent);
        world.commit(" []");
        assert_eq!(world.receive(WAN, &udp(far, own)).reason, NoRule);
        assert_eq!(world.send(LAN, &udp(dns, host)).reason, NoRule);
    });
}

#[test]
fn packets_of_a_flow_on_another_zones_interface_are_refused() {
    with_world("- { id: all, from: lan, to: [wan, local], action: accept }", |world| {
        let (there, back) = ("10.1.0.2:4000", "192.0.2.1:80");
        world.receive(LAN, &tcp(there, back, SYN));
        assert_eq!(
            world.receive(WAN, &tcp(there, back, ACK)).reason,
            ZoneMismatch,
            "forged origin"
        );
        assert_eq!(
            world.receive(LAN, &tcp(back, there, ACK)).reason,
            ZoneMismatch,
            "forged answer"
        );
        assert_eq!(
            world.forward(WAN, WAN, &tcp(back, there, ACK)).reason,
            ZoneMismatch,
            "lost answer"
        );

        let (host, gateway) = ("10.1.0.2:1", "10.1.0.1:53");
        world.receive(LAN, &udp(host, gateway));
        for interface in [LAN, WAN] {
            let outcome = world.receive(interface, &udp(gateway, host));
            assert_eq!(outcome.reason, ZoneMismatch, "forged gateway on {interface}");
        }
    });
}

#[test]
fn a_flow_that_leaves_by_another_zone_is_judged_anew() {
    with_world("- { id: in, from: lan, to: local, action: accept }", |world| {
        // The routing table knows no way, so the packet stays: accepted as local.
        let packet = tcp("10.1.0.2:4000", "10.1.0.1:80", SYN);
        assert_eq!(world.receive(LAN, &packet).reason, Local);
        // Should it leave nevertheless, what it is accepted as does not count.
        assert_eq!(world.forward(LAN, WAN, &packet).reason, NoRule);
        assert_eq!(world.receive(LAN, &packet).reason, Local);
        assert_eq!(
            world.forward(PLAIN, WAN, &tcp("10.4.0.2:1", "192.0.2.1:80", SYN)).reason,
            UnknownZone
        );
    });
}

#[test]
fn a_closed_connection_is_opened_only_by_a_rule() {
    with_world(WEB, |world| {
        let (there, back) = ("10.1.0.2:4000", "192.0.2.1:80");
        for close in [[FIN, FIN], [RST, ACK]] {
            assert_eq!(world.receive(LAN, &tcp(there, back, SYN)).reason, Forwarded);
            world.receive(LAN, &segment(there, back, ACK | close[0], [2, 0], 0));
            world.receive(WAN, &segment(back, there, ACK | close[1], [1, 2], 0));
            assert_eq!(world.receive(WAN, &tcp(back, there, ACK)).reason, Forwarded, "late packet");
            assert_eq!(
                world.receive(WAN, &tcp(back, there, SYN)).reason,
                NoRule,
                "opened from outside"
            );
            assert_eq!(world.receive(LAN, &tcp(there, back, SYN)).reason, Forwarded, "opened anew");
            let flow = only_flow(world);
            assert_eq!((flow.phase, flow.origin.sent.packets), (Phase::Opening, 1));
        }
    });
}

#[test]
fn counts_of_a_rule_go_on_when_a_commit_keeps_it() {
    with_world(WEB, |world| {
        let syn = |port: u16| tcp(&format!("10.1.0.2:{port}"), "192.0.2.1:80", SYN);
        (1..=3).for_each(|port| _ = world.receive(LAN, &syn(port)));
        let with_other = format!("- {{ id: first, from: wan, to: lan, action: drop }}\n{WEB}");
        world.commit(&with_other);
        (1..=2).for_each(|port| _ = world.receive(LAN, &syn(port)));
        world.receive(WAN, &udp("192.0.2.1:1", "10.1.0.2:1"));
        assert_eq!(rule_packets(world), [("first".to_owned(), 1), ("web".to_owned(), 5)]);
        world.commit(WEB);
        assert_eq!(rule_packets(world), [("web".to_owned(), 5)]);
        world.commit(&with_other);
        assert_eq!(rule_packets(world), [("first".to_owned(), 0), ("web".to_owned(), 5)]);
    });
}

fn only_flow(world: &World<'_>) -> FlowEntry {
    let flows = world.datapath.flows().expect("flows");
    let [flow] = flows.as_slice() else { panic!("one flow: {flows:#?}") };
    flow.clone()
}

fn rule_packets(world: &World<'_>) -> Vec<(String, u64)> {
    let hits = world.datapath.rule_hits().expect("hits");
    hits.into_iter().map(|(rule, hits)| (rule.to_string(), hits.counter.packets)).collect()
}
