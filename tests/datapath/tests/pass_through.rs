//! Protocols that are neither IP nor ARP.

use nightgate_abi::Reason::{EtherType, PassThrough};
use nightgate_datapath_tests::{LAN, WAN, frame::ethernet, with_uncommitted_world};

#[test]
fn a_zone_lets_pass_what_it_asks_for_in_both_directions_and_nothing_else() {
    with_uncommitted_world(|world| {
        let commit = |world: &mut nightgate_datapath_tests::World<'_>, option: &str| {
            let text = format!(
                "version: 1\nrouter: {{ identity: gw.json }}\nzones:\n  lan: {{ interfaces: [{LAN}] }}\n  wan: {{ \
                 interfaces: [{WAN}]{option} }}\nrules: []\n"
            );
            let config = nightgate_config::parse(&text, "rules.yaml").expect("a configuration");
            let rules = nightgate_ruleset::compile(&config.gateway.expect("a gateway"));
            world.datapath.commit(&rules.expect("within the limits").image()).expect("commit");
        };
        commit(world, ", pass_through: [eapol, lldp, 0x88b5]");
        for ether_type in [0x888e, 0x88cc, 0x88b5] {
            let frame = ethernet(ether_type, &[0; 46]);
            assert_eq!(world.receive(WAN, &frame).reason, PassThrough);
            assert_eq!(world.send(WAN, &frame).reason, PassThrough);
            assert_eq!(world.receive(LAN, &frame).reason, EtherType, "another zone");
        }
        for ether_type in [0x8902, 0x0842, 46] {
            assert_eq!(world.receive(WAN, &ethernet(ether_type, &[0; 46])).reason, EtherType);
        }
        commit(world, "");
        assert_eq!(world.receive(WAN, &ethernet(0x888e, &[0; 46])).reason, EtherType);
    });
}
