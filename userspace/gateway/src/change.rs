//! Changes of the rules while the gateway runs: proposed, compared, and kept for the way back.

mod difference;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use nightgate_abi::Address;
use nightgate_config::{Config, Gateway, InterfaceName, Prefix};
use nightgate_datapath::IfIndex;
use nightgate_packet::{PacketMeta, tcp_flags};
use nightgate_ruleset::{RuleSet, Verdict, ZoneId, classify};

pub use self::difference::{Change, Difference, Subject};
use crate::{
    admin::{RuleFile, Session},
    ends::plain,
};

/// Rules with the file that they are from.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The file.
    pub file: RuleFile,
    /// What the file says.
    pub gateway: Gateway,
    /// The rules, compiled.
    pub rules: RuleSet,
}

/// IP protocol number of TCP (RFC 9293).
const TCP: u8 = 6;

impl Candidate {
    /// Reads a configuration file for a gateway that was started with another.
    ///
    /// # Errors
    /// Every error in it, and everything that only a restart can change, one on each line.
    pub fn read(file: RuleFile, started: &Config) -> Result<Self, String> {
        let config = file.parse().map_err(|errors| lines(errors.iter()))?;
        let fixed = fixed_differences(started, &config);
        if !fixed.is_empty() {
            let line = |(key, remedy)| {
                format!(
                    "{}: {key}: other than what the gateway was started with; expected the same: {remedy}",
                    file.name
                )
            };
            return Err(lines(fixed.into_iter().map(line)));
        }
        let gateway = config.gateway.ok_or_else(|| {
            format!("{}: no zones; expected the configuration of a gateway", file.name)
        })?;
        let rules = nightgate_ruleset::compile(&gateway).map_err(|errors| lines(errors.iter()))?;
        Ok(Self { file, gateway, rules })
    }

    /// What changes from this configuration to another.
    pub fn differences(&self, next: &Self) -> Vec<Difference> {
        difference::differences(&self.gateway, &next.gateway)
    }

    /// What is wrong with the interfaces that are in no zone of `running`: they are not there.
    pub fn missing_interfaces(&self, running: &Gateway) -> Vec<String> {
        let known: BTreeSet<_> = running.zones.values().flat_map(|zone| &zone.interfaces).collect();
        let zones = self.gateway.zones.iter();
        let new = zones.flat_map(|(zone, value)| value.interfaces.iter().map(move |i| (zone, i)));
        new.filter(|(_, interface)| {
            !known.contains(interface) && IfIndex::of(interface.as_str()).is_err()
        })
        .map(|(zone, interface)| {
            format!(
                "{}: zones.{zone}: no interface {interface}; expected one that `ip link` shows: make it, or \
                 correct the name",
                self.file.name
            )
        })
        .collect()
    }

    /// The zone of an interface in these rules.
    pub fn zone_of(&self, interface: &InterfaceName) -> Option<ZoneId> {
        let mut zones = self.gateway.zones.iter();
        let (name, _) = zones.find(|(_, zone)| zone.interfaces.contains(interface))?;
        self.rules.zones().get(name).copied()
    }

    /// Says why these rules would cut a TCP connection to this host that comes from a zone; `None` if they
    /// would not.
    pub fn cuts(&self, from: ZoneId, session: &Session) -> Option<String> {
        // sshd writes mapped addresses where it listens for both families by one socket.
        let (client, server) = (plain(session.client), plain(session.server));
        let packet = PacketMeta {
            tcp_flags: tcp_flags::SYN,
            ..PacketMeta::between(
                TCP,
                (Address::from(client.ip()), client.port()),
                (Address::from(server.ip()), server.port()),
            )
        };
        let why = match classify(&self.rules, from, ZoneId::LOCAL, &packet) {
            Verdict::Accept(_) => return None,
            Verdict::Drop(index) | Verdict::Reject(index) => {
                let rule = self.rules.rules().get(index).map(|rule| rule.id.to_string());
                format!("rule {} refuses it", rule.unwrap_or_default())
            }
            Verdict::NoRule => "no rule accepts it".into(),
        };
        Some(format!(
            "these rules would cut your own session from {client} to {server}: {why}; add a rule that accepts it, \
             or use --force"
        ))
    }
}

/// Default of `dns.range_v6`.
const DEFAULT_RANGE_V6: Ipv6Addr = Ipv6Addr::new(0xfd64, 0x6e67, 0, 0, 0, 0, 0, 0);

/// Keys whose values a running gateway cannot change.
fn fixed_differences(started: &Config, next: &Config) -> Vec<(&'static str, &'static str)> {
    const RESTART: &str = "restart the gateway to change it";
    const TABLES: &str = "the tables are made anew by a start after `nightgate gateway down`";
    let verdict = |config: &Config| config.gateway.as_ref().map(|gateway| gateway.verdict.clone());
    let packets =
        |config: &Config| config.gateway.as_ref().map(|gateway| gateway.telemetry.packets.clone());
    let hosting = |config: &Config| config.gateway.as_ref().map(|gateway| gateway.hosting.clone());
    let flows = |config: &Config| config.gateway.as_ref().map(|gateway| gateway.tracking.flows);
    let has_other_flows = next.gateway.is_some() && flows(started) != flows(next);
    let ranges = |config: &Config| {
        let dns = config.gateway.as_ref().and_then(|gateway| gateway.dns.as_ref());
        dns.map(|dns| (Some(dns.range_v4), Some(dns.range_v6)))
    };
    // Without a private DNS the addresses are handed out from the default ranges, and nobody learns them.
    let defaults = || {
        let [v4, v6] = [(IpAddr::from([100, 64, 0, 0]), 10), (DEFAULT_RANGE_V6.into(), 64)];
        (Prefix::new(v4.0, v4.1), Prefix::new(v6.0, v6.1))
    };
    let has_other_ranges = ranges(next)
        .is_some_and(|ranges_next| ranges_next != ranges(started).unwrap_or_else(defaults));
    [
        ("router", RESTART, started.router != next.router),
        ("admin_socket", RESTART, started.admin_socket != next.admin_socket),
        ("verdict", RESTART, verdict(started) != verdict(next)),
        ("telemetry.packets", RESTART, packets(started) != packets(next)),
        ("hosting", RESTART, hosting(started) != hosting(next)),
        ("flows", TABLES, has_other_flows),
        ("dns.range_v4 or dns.range_v6", RESTART, has_other_ranges),
    ]
    .into_iter()
    .filter_map(|(key, remedy, differs)| differs.then_some((key, remedy)))
    .collect()
}

fn lines<T: ToString>(errors: impl Iterator<Item = T>) -> String {
    errors.map(|error| error.to_string()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSH: &str =
        "{ id: ssh, from: lan, to: local, protocol: tcp, destination_ports: [22], action: accept }";
    const WEB: &str =
        "{ id: web, from: lan, to: local, protocol: tcp, destination_ports: [80], action: accept }";
    const NO_WEB: &str =
        "{ id: web, from: lan, to: local, protocol: tcp, destination_ports: [80], action: drop }";
    const ALL: &str = "{ id: all, from: lan, to: local, action: drop }";

    #[test]
    fn every_kind_of_change_is_named_in_the_order_of_the_new_rules() {
        let old = candidate(&[SSH, WEB]);
        let list = |new: &[&str]| {
            let new = candidate(new);
            let text = |d: Difference| format!("{:?} {}", d.change, d.name);
            old.differences(&new).into_iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(list(&[SSH, WEB]), [""; 0]);
        assert_eq!(list(&[SSH, ALL, NO_WEB]), ["Added all", "Changed web"]);
        assert_eq!(list(&[WEB]), ["Removed ssh"]);
        assert_eq!(list(&[WEB, SSH]), ["Moved web", "Moved ssh"]);
    }

    #[test]
    fn a_session_is_cut_by_a_rule_or_by_the_lack_of_one() {
        let session = Session {
            client: "[::ffff:10.1.0.9]:40000".parse().unwrap(),
            server: "10.1.0.1:22".parse().unwrap(),
        };
        let lan = candidate(&[]).rules.zones().values().copied().max().unwrap();
        let why = |rules: &[&str]| candidate(rules).cuts(lan, &session);
        assert_eq!(why(&[SSH]), None);
        assert!(why(&[ALL, SSH]).unwrap().contains("rule all refuses it"));
        let text = why(&[WEB]).unwrap();
        assert!(text.contains("no rule accepts") && text.contains("10.1.0.9:40000"), "{text}");
    }

    #[test]
    fn a_bad_file_yields_every_error() {
        let bad = text(&["{ id: a, from: nowhere, to: local, action: accept }", "{ id: b }"]);
        let error = Candidate::read(file(&bad), &config(&text(&[]))).unwrap_err();
        assert!(error.lines().count() >= 2 && error.contains("new.yaml:"), "{error}");
    }

    #[test]
    fn what_only_a_restart_changes_is_refused_all_at_once() {
        let started = config(&text(&[]));
        let other =
            format!("{}admin_socket: /run/other.sock\n", text(&[])).replace("gw.json", "b.json");
        let error = Candidate::read(file(&other), &started).unwrap_err();
        assert_eq!(error.lines().count(), 2, "{error}");
        assert!(error.contains("router:") && error.contains("restart the gateway"), "{error}");

        let flows = format!("{}flows: {{ established: 65536 }}\n", text(&[]));
        let error = Candidate::read(file(&flows), &started).unwrap_err();
        assert!(error.contains("flows:") && error.contains("gateway down"), "{error}");

        let dns = "dns: { listen: [\"10.1.0.1:53\"], range_v4: 100.64.0.0/16 }\n";
        let started = config(&format!("{}{dns}", text(&[])));
        let same_ranges = dns.replace(":53", ":5353");
        assert!(Candidate::read(file(&format!("{}{same_ranges}", text(&[]))), &started).is_ok());
        let none = config(&text(&[]));
        assert!(Candidate::read(file(&format!("{}{dns}", text(&[]))), &none).is_err(), "other");
        let default = dns.replace(", range_v4: 100.64.0.0/16", "");
        assert!(Candidate::read(file(&format!("{}{default}", text(&[]))), &none).is_ok());
        let other_range = dns.replace("/16", "/17");
        assert!(Candidate::read(file(&format!("{}{other_range}", text(&[]))), &started).is_err());
    }

    #[test]
    fn zones_may_change_to_interfaces_that_are_there() {
        let started = candidate(&[]);
        let other = text(&[]).replace("[lan0]", "[lan0, lo, no-such0]");
        let next = Candidate::read(file(&other), &config(&text(&[]))).unwrap();
        let missing = next.missing_interfaces(&started.gateway);
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing[0].contains("zones.lan: no interface no-such0"), "{missing:?}");
        let name = |d: Difference| format!("{:?} {:?} {}", d.change, d.what, d.name);
        let differences: Vec<_> = started.differences(&next).into_iter().map(name).collect();
        assert_eq!(differences, ["Added Interface lo", "Added Interface no-such0"]);

        let guarded = text(&[]).replace("[lan0]", "[lan0], block: [192.0.2.0/24]");
        let guarded = format!("{guarded}timeouts: {{ udp: 1m }}\nlog_unmatched: true\n");
        let next = Candidate::read(file(&guarded), &config(&text(&[]))).unwrap();
        let differences: Vec<_> = started.differences(&next).into_iter().map(name).collect();
        let expected =
            ["Changed Zone lan", "Changed Tracking timeouts", "Changed Log log_unmatched"];
        assert_eq!(differences, expected);
    }

    #[test]
    fn a_set_in_a_file_changes_with_the_file() {
        let listed =
            text(&[]).replace("zones:", "sets: { bad: { addresses: { file: bad.txt } } }\nzones:");
        let listed = listed.replace("[lan0]", "[lan0], block: $bad");
        let read = |content: &str| {
            let mut file = file(&listed);
            file.files.insert("bad.txt".into(), content.into());
            Candidate::read(file, &config(&text(&[])))
        };
        let (old, new) = (read("192.0.2.1").unwrap(), read("192.0.2.1\n192.0.2.2").unwrap());
        let name = |d: Difference| format!("{:?} {:?} {}", d.change, d.what, d.name);
        let differences: Vec<_> = old.differences(&new).into_iter().map(name).collect();
        assert_eq!(differences, ["Changed Set bad"]);
        assert_eq!(new.rules.guards()[0].prefixes.len(), 2);
        let error = read("192.0.2.1\n192.0.2.2\n192.0.2.300").unwrap_err();
        assert!(error.contains("bad.txt:3: sets.bad.addresses"), "{error}");
    }

    fn text(rules: &[&str]) -> String {
        let rules = rules.iter().map(|rule| format!("  - {rule}\n")).collect::<String>();
        let rules = if rules.is_empty() { "  []\n".into() } else { rules };
        format!(
            "version: 1\nrouter: {{ identity: gw.json }}\nzones: {{ lan: {{ interfaces: [lan0] }} }}\nrules:\n{rules}"
        )
    }

    fn file(text: &str) -> RuleFile {
        RuleFile::new("new.yaml", text)
    }

    fn candidate(rules: &[&str]) -> Candidate {
        let text = text(rules);
        Candidate::read(file(&text), &config(&text)).unwrap()
    }

    fn config(text: &str) -> Config {
        nightgate_config::parse(text, "started.yaml").unwrap()
    }
}
