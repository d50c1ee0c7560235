//! Rules that name sets, or say what must not be, in the kernel.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use nightgate_abi::Reason::{self, Forwarded, NoRule};
use nightgate_datapath_tests::{LAN, frame::*, with_uncommitted_world, with_world};

#[test]
fn members_of_both_families_are_told_from_others() {
    let rules = "\
- { id: listed, from: lan, to: wan, source: [$hosts, 10.1.0.7], destination_ports: $web, protocol: udp, action: accept }
- { id: others, from: lan, to: wan, destination: { not: [$far, '2001:db8:2::8/125'] }, protocol: udp, \
  destination_ports: [9], action: accept }
sets:
  hosts: { addresses: [10.1.0.2, 10.1.0.4/30, '2001:db8:1::4/126'] }
  far: { addresses: [10.2.0.8/29] }
  web: { ports: [80, '8000-8009'] }";
    with_world(rules, |world| {
        let mut fate = |source: &str, destination: &str| -> Reason {
            world.receive(LAN, &udp(source, destination)).reason
        };
        for host in [2, 4, 5, 6, 7] {
            assert_eq!(fate(&format!("10.1.0.{host}:1"), "10.2.0.9:80"), Forwarded, "{host}");
        }
        for host in [1, 3, 8, 200] {
            assert_eq!(fate(&format!("10.1.0.{host}:2"), "10.2.0.9:80"), NoRule, "{host}");
        }
        for (host, expected) in [(3, NoRule), (4, Forwarded), (7, Forwarded), (8, NoRule)] {
            let source = format!("[2001:db8:1::{host}]:3");
            assert_eq!(fate(&source, "[2001:db8:2::9]:8009"), expected, "{host}");
        }
        for (port, expected) in [(79, NoRule), (80, Forwarded), (8_000, Forwarded), (8_010, NoRule)]
        {
            assert_eq!(fate("10.1.0.2:4", &format!("10.2.0.9:{port}")), expected, "{port}");
        }
        for (destination, expected) in [
            ("10.2.0.7:9", Forwarded),
            ("10.2.0.8:9", NoRule),
            ("10.2.0.15:9", NoRule),
            ("10.2.0.16:9", Forwarded),
            ("[2001:db8:2::7]:9", Forwarded),
            ("[2001:db8:2::f]:9", NoRule),
        ] {
            let source =
                if destination.starts_with('[') { "[2001:db8:1::2]:5" } else { "10.1.0.2:5" };
            assert_eq!(fate(source, destination), expected, "{destination}");
        }
    });
}

/// Every other address of 10.8.0.0 to 10.11.13.63, half of them by IPv6.
#[test]
fn a_set_of_100_000_entries_is_searched_to_its_ends() {
    const ENTRIES: u32 = 50_000;
    let v4 = |n: u32| Ipv4Addr::from(0x0a08_0000 + n);
    let v6 = |n: u32| Ipv6Addr::from((0x2001_0db8_0007 << 80) + u128::from(n));
    let mut rules =
        "- { id: a, from: lan, to: wan, destination: $all, action: accept }\nsets:\n  all:\n    \
                     addresses:\n"
            .to_owned();
    for n in 0..ENTRIES {
        writeln!(rules, "    - {}\n    - '{}'", v4(2 * n), v6(2 * n)).expect("a text");
    }
    with_uncommitted_world(|world| {
        world.commit(&rules);
        for n in [0, 1, 2, 3, 4, 24_999, 25_000, 33_333, ENTRIES - 2, ENTRIES - 1] {
            for n in [2 * n, 2 * n + 1] {
                let expected = if n % 2 == 0 { Forwarded } else { NoRule };
                let frame = udp("10.1.0.2:1", &format!("{}:1", v4(n)));
                assert_eq!(world.receive(LAN, &frame).reason, expected, "{n}");
                let frame = udp("[2001:db8:1::2]:1", &format!("[{}]:1", v6(n)));
                assert_eq!(world.receive(LAN, &frame).reason, expected, "{n}");
            }
        }
        for outside in ["10.7.255.255:1", "10.12.0.0:1"] {
            assert_eq!(world.receive(LAN, &udp("10.1.0.2:1", outside)).reason, NoRule);
        }
    });
}
