//! What operators see: hits of rules, refusals by interface, and what all that takes.

use nightgate_abi::{
    Counter, Hook,
    Reason::{EtherType, Forwarded, NoRule, Rule},
};
use nightgate_datapath::{Datapath, Drops, IfIndex};
use nightgate_datapath_tests::{
    LAN, WAN, World, frame::*, gateway_namespace, rule_set, with_world,
};
use tcp_flags::SYN;

const WEB: &str = "- { id: web, from: lan, to: wan, protocol: tcp, destination_ports: [80], action: accept }\n\
     - { id: mail, from: lan, to: wan, protocol: tcp, destination_ports: [25], action: drop }\n\
     - { id: never, from: wan, to: lan, action: accept }";

/// Kernel memory of a gateway without rules and flows, bytes, at most.
const EMPTY: u64 = 44 << 20;

#[test]
fn a_rule_tells_when_it_was_hit_last() {
    with_world(WEB, |world| {
        let before = since_boot();
        assert_eq!(hits(world), [0, 0, 0]);
        assert_eq!(world.receive(LAN, &tcp("10.1.0.2:9", "192.0.2.1:80", SYN)).reason, Forwarded);
        assert_eq!(
            world.receive(LAN, &tcp("[2001:db8:1::2]:9", "[2001:db8:9::1]:25", SYN)).reason,
            Rule
        );
        let [web, mail, never] = hits(world);
        // The clock of the programs is a few milliseconds coarse.
        let range = before - 20_000_000..=since_boot();
        assert!(range.contains(&web) && range.contains(&mail), "{web} {mail} {range:?}");
        assert_eq!(never, 0);

        world.commit(WEB);
        assert_eq!(hits(world), [web, mail, 0], "a commit forgets nothing");
    });
}

#[test]
fn refusals_are_counted_where_they_happen() {
    with_world(WEB, |world| {
        // What the kernel sends by itself when interfaces come up is refused as well.
        let before = drops(world);
        let syn = tcp("10.1.0.2:9", "192.0.2.1:25", SYN);
        for _ in 0..3 {
            world.receive(LAN, &syn);
        }
        world.receive(WAN, &syn);
        world.send(WAN, &tcp("10.2.0.1:9", "192.0.2.1:80", SYN));
        world.receive(WAN, &ethernet(0x1234, &[0; 20]));
        world.receive(LAN, &tcp("10.1.0.2:9", "192.0.2.1:80", SYN));

        let after = drops(world);
        let grown = |interface: &str, hook, reason| {
            let interface = IfIndex::of(interface).expect("an interface");
            let of = |drops: &[Drops]| {
                let is_meant = |drops: &&Drops| {
                    (drops.interface, drops.hook, drops.reason) == (interface, hook, reason)
                };
                drops.iter().find(is_meant).map_or_else(Counter::default, |drops| drops.counter)
            };
            (of(&after).packets - of(&before).packets, of(&after).bytes - of(&before).bytes)
        };
        let bytes = syn.len() as u64;
        assert_eq!(grown(LAN, Hook::Ingress, Rule), (3, 3 * bytes));
        assert!(grown(WAN, Hook::Ingress, NoRule).0 >= 1);
        assert!(grown(WAN, Hook::Egress, NoRule).0 >= 1);
        assert_eq!(grown(LAN, Hook::Egress, Rule), (0, 0));
        assert_eq!(grown(WAN, Hook::Ingress, EtherType), (1, 34));

        let lan = IfIndex::of(LAN).expect("an interface");
        world.datapath.detach(lan).expect("detach");
        assert!(drops(world).iter().all(|drops| drops.interface != lan), "forgotten");
    });
}

#[test]
fn an_empty_gateway_takes_little_memory() {
    let namespace = gateway_namespace();
    namespace
        .enter(|| {
            let mut datapath = Datapath::load().expect("the kernel object: `cargo xtask build`");
            for _both_banks in 0..2 {
                datapath.commit(&rule_set(" []").image()).expect("commit");
            }
            let empty = memory(&datapath);
            assert!(empty <= EMPTY, "{:?}", datapath.memory());
            let rule =
                |number| format!("- {{ id: r{number}, from: lan, to: wan, action: accept }}\n");
            let rules = (0..10_000).map(rule).collect::<String>();
            datapath.commit(&rule_set(&rules).image()).expect("commit");
            let full = memory(&datapath);
            assert!(full > empty && full <= 2 * EMPTY, "{full} bytes");
            datapath.commit(&rule_set(" []").image()).expect("commit");
            datapath.commit(&rule_set(" []").image()).expect("commit");
            assert!(memory(&datapath) <= empty, "given back");
        })
        .expect("enter the namespace");
}

fn memory(datapath: &Datapath) -> u64 {
    let memory = datapath.memory().expect("sizes of maps");
    memory.iter().map(|(_, bytes)| bytes).sum()
}

fn hits(world: &World<'_>) -> [u64; 3] {
    let hits = world.datapath.rule_hits().expect("hits");
    let times = hits.iter().map(|(_, hits)| hits.last_seen).collect::<Vec<_>>();
    times.try_into().expect("three rules")
}

fn drops(world: &World<'_>) -> Vec<Drops> {
    world.datapath.drops().expect("drops")
}

fn since_boot() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
    u64::try_from(std::time::Duration::from(time).as_nanos()).expect("not that long")
}
