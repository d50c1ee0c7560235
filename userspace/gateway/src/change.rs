//! Changes of the rules while the gateway runs: proposed, compared, and kept for the way back.

use std::{collections::BTreeMap, net::SocketAddr};

use nightgate_abi::Address;
use nightgate_config::{Gateway, Rule, RuleId};
use nightgate_packet::{PacketMeta, tcp_flags};
use nightgate_ruleset::{RuleSet, Verdict, ZoneId, classify};
use serde::Serialize;

use crate::admin::{RuleFile, Session};

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

/// One difference between two lists of rules.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Difference {
    /// What happens to the rule.
    pub change: Change,
    /// The rule.
    pub rule: String,
}

/// What happens to a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// It stays, and says something else.
    Changed,
    /// It stays as it is, behind or before other rules than now.
    Moved,
}

/// IP protocol number of TCP (RFC 9293).
const TCP: u8 = 6;

impl Candidate {
    /// Reads a configuration file for the gateway that has the zones of `running`.
    ///
    /// # Errors
    /// Every error in it, one on each line.
    pub fn read(file: RuleFile, running: &Gateway) -> Result<Self, String> {
        let config = nightgate_config::parse(&file.text, &file.name)
            .map_err(|errors| lines(errors.iter()))?;
        let gateway = config.gateway.ok_or_else(|| {
            format!("{}: no zones; expected the configuration of a gateway", file.name)
        })?;
        if gateway.zones != running.zones {
            return Err(format!(
                "{}: zones: other than those of the running gateway, expected the same zones with the same \
                 interfaces; restart the gateway to change them",
                file.name
            ));
        }
        let rules = nightgate_ruleset::compile(&gateway).map_err(|errors| lines(errors.iter()))?;
        Ok(Self { file, gateway, rules })
    }

    /// What changes from these rules to others.
    pub fn differences(&self, next: &Self) -> Vec<Difference> {
        differences(&self.gateway.rules, &next.gateway.rules)
    }

    /// Says why these rules would cut a TCP connection to this host that comes from a zone; `None` if they
    /// would not.
    pub fn cuts(&self, from: ZoneId, session: &Session) -> Option<String> {
        let (client, server) = (plain(session.client), plain(session.server));
        let packet = PacketMeta {
            source: Address::from(client.ip()),
            destination: Address::from(server.ip()),
            source_port: client.port(),
            destination_port: server.port(),
            protocol: TCP,
            tcp_flags: tcp_flags::ACK,
            family: Address::from(client.ip()).family(),
        };
        let why = match classify(&self.rules, from, ZoneId::LOCAL, &packet) {
            Verdict::Accept(_) => return None,
            Verdict::Drop(index) => {
                let rule = self.rules.rules().get(index).map(|rule| rule.id.to_string());
                format!("rule {} drops it", rule.unwrap_or_default())
            }
            Verdict::NoRule => "no rule accepts it".into(),
        };
        Some(format!(
            "these rules would cut your own session from {client} to {server}: {why}; add a rule that accepts it, \
             or use --force"
        ))
    }
}

/// sshd writes mapped addresses where it listens for both families by one socket.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn differences(old: &[Rule], new: &[Rule]) -> Vec<Difference> {
    let by_id = |rules: &[Rule]| -> BTreeMap<RuleId, Rule> {
        rules.iter().map(|rule| (rule.id.clone(), rule.clone())).collect()
    };
    let (before, after) = (by_id(old), by_id(new));
    let difference = |change, rule: &Rule| Difference { change, rule: rule.id.to_string() };
    let mut found = Vec::new();
    // Of the rules that stay, the order they had.
    let mut staying = old.iter().filter(|rule| after.contains_key(&rule.id));
    for rule in new {
        let Some(was) = before.get(&rule.id) else {
            found.push(difference(Change::Added, rule));
            continue;
        };
        let is_moved = staying.next().is_none_or(|expected| expected.id != rule.id);
        if was != rule {
            found.push(difference(Change::Changed, rule));
        } else if is_moved {
            found.push(difference(Change::Moved, rule));
        }
    }
    let gone = old.iter().filter(|rule| !after.contains_key(&rule.id));
    found.extend(gone.map(|rule| difference(Change::Removed, rule)));
    found
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
            let text = |d: Difference| format!("{:?} {}", d.change, d.rule);
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
        assert!(why(&[ALL, SSH]).unwrap().contains("rule all drops it"));
        let text = why(&[WEB]).unwrap();
        assert!(text.contains("no rule accepts") && text.contains("10.1.0.9:40000"), "{text}");
    }

    #[test]
    fn a_bad_file_yields_every_error_and_other_zones_the_remedy() {
        let running = candidate(&[]).gateway;
        let bad = text(&["{ id: a, from: nowhere, to: local, action: accept }", "{ id: b }"]);
        let error = Candidate::read(file(&bad), &running).unwrap_err();
        assert!(error.lines().count() >= 2 && error.contains("new.yaml:"), "{error}");

        let other = text(&[]).replace("lan0", "lan1");
        let error = Candidate::read(file(&other), &running).unwrap_err();
        assert!(error.contains("restart the gateway"), "{error}");
    }

    fn text(rules: &[&str]) -> String {
        let rules = rules.iter().map(|rule| format!("  - {rule}\n")).collect::<String>();
        let rules = if rules.is_empty() { "  []\n".into() } else { rules };
        format!(
            "version: 1\nrouter: {{ identity: gw.json }}\nzones: {{ lan: {{ interfaces: [lan0] }} }}\nrules:\n{rules}"
        )
    }

    fn file(text: &str) -> RuleFile {
        RuleFile { name: "new.yaml".into(), text: text.into() }
    }

    fn candidate(rules: &[&str]) -> Candidate {
        let text = text(rules);
        let config = nightgate_config::parse(&text, "rules.yaml").unwrap();
        Candidate::read(file(&text), &config.gateway.unwrap()).unwrap()
    }
}
