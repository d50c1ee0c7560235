//! What the admin socket tells about the firewall.

use std::time::Duration;

use nightgate_abi::reason::{Kind, Reason};
use nightgate_datapath::{DatapathError, FlowEntry, FlowSide};
use nightgate_ruleset::Action;
use nightgate_telemetry::Metrics;
use serde::Serialize;

use crate::{firewall::Firewall, intercept::InterceptTable};

/// An element of the answer to [`crate::admin::Topic::Counters`].
#[derive(Clone, Debug, Serialize)]
pub struct ReasonReport {
    reason: &'static str,
    kind: &'static str,
    packets: u64,
    bytes: u64,
}

/// An element of the answer to [`crate::admin::Topic::Rules`].
#[derive(Clone, Debug, Serialize)]
pub struct RuleReport {
    rule: String,
    action: &'static str,
    packets: u64,
    bytes: u64,
}

/// An element of the answer to [`crate::admin::Topic::Flows`].
#[derive(Clone, Debug, Serialize)]
pub struct FlowReport {
    protocol: String,
    origin: String,
    destination: String,
    zones: [Option<String>; 2],
    rule: Option<String>,
    service: Option<String>,
    mirrored: bool,
    sent_packets: u64,
    sent_bytes: u64,
    received_packets: u64,
    received_bytes: u64,
    idle_ms: u128,
}

/// An element of the answer to [`crate::admin::Topic::Mirror`].
#[derive(Clone, Debug, Serialize)]
pub struct MirrorReport {
    session: String,
    outcome: &'static str,
    packets: u64,
    bytes: u64,
}

impl Firewall {
    /// Every reason with what it happened to.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn reasons(&self) -> Result<Vec<ReasonReport>, DatapathError> {
        let statistics = self.datapath.statistics()?;
        let report = |reason: Reason, packets, bytes| ReasonReport {
            reason: reason.as_str(),
            kind: match reason.kind() {
                Kind::Pass => "pass",
                Kind::Drop => "drop",
                Kind::Event => "event",
            },
            packets,
            bytes,
        };
        Ok(statistics.iter().map(|(reason, n)| report(reason, n.packets, n.bytes)).collect())
    }

    /// Takes the kernel's counters over into the metrics.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn count_packets(&self, metrics: &Metrics) -> Result<(), DatapathError> {
        for (reason, n) in self.datapath.statistics()?.iter() {
            metrics.set_kernel_packets(reason.as_str(), n.packets);
        }
        Ok(())
    }

    /// Every rule in order with what it decided, and after them what none did.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn rule_reports(&self) -> Result<Vec<RuleReport>, DatapathError> {
        let counters = self.datapath.rule_counters()?;
        let actions = self.rules.rules().iter().map(|rule| match rule.action {
            Action::Accept => "accept",
            Action::Drop => "drop",
        });
        let mut reports = counters
            .into_iter()
            .zip(actions)
            .map(|((rule, n), action)| RuleReport {
                rule: rule.to_string(),
                action,
                packets: n.packets,
                bytes: n.bytes,
            })
            .collect::<Vec<_>>();
        let default = self.datapath.statistics()?.get(Reason::NoRule);
        reports.push(RuleReport {
            rule: "(default)".into(),
            action: "drop",
            packets: default.packets,
            bytes: default.bytes,
        });
        Ok(reports)
    }

    /// The tracked flows, the least idle first. `now` is the time since boot by `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn flow_reports(
        &self,
        table: &InterceptTable,
        now: Duration,
    ) -> Result<Vec<FlowReport>, DatapathError> {
        let mut flows = self.datapath.flows()?;
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.last_seen));
        Ok(flows.iter().map(|flow| flow_report(flow, table, now)).collect())
    }

    /// What became of the copies, by session.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mirror_reports(&self) -> Result<Vec<MirrorReport>, DatapathError> {
        let statistics = self.datapath.mirror_statistics()?;
        let known = self.mirror.sessions().iter().filter_map(|session| {
            let row = statistics.sessions.get(&session.id)?;
            Some((session.name.to_string(), row))
        });
        let unknown = [("(unknown)".to_owned(), &statistics.unknown)];
        Ok(known
            .chain(unknown)
            .flat_map(|(session, row)| {
                row.iter().map(move |(outcome, n)| MirrorReport {
                    session: session.clone(),
                    outcome: outcome.as_str(),
                    packets: n.packets,
                    bytes: n.bytes,
                })
            })
            .collect())
    }
}

fn flow_report(flow: &FlowEntry, table: &InterceptTable, now: Duration) -> FlowReport {
    let zone = |side: &FlowSide| side.zone.as_ref().map(ToString::to_string);
    let service = flow.service.map(|tag| {
        table.service_tagged(tag).map_or_else(|| format!("#{tag}"), |service| service.name.clone())
    });
    FlowReport {
        protocol: match flow.protocol {
            1 => "icmp".into(),
            6 => "tcp".into(),
            17 => "udp".into(),
            58 => "icmpv6".into(),
            other => other.to_string(),
        },
        origin: flow.origin.address.to_string(),
        destination: flow.responder.address.to_string(),
        zones: [zone(&flow.origin), zone(&flow.responder)],
        rule: flow.rule.as_ref().map(ToString::to_string),
        service,
        mirrored: flow.mirror_session.is_some(),
        sent_packets: flow.origin.sent.packets,
        sent_bytes: flow.origin.sent.bytes,
        received_packets: flow.responder.sent.packets,
        received_bytes: flow.responder.sent.bytes,
        idle_ms: now.saturating_sub(Duration::from_nanos(flow.last_seen)).as_millis(),
    }
}

#[cfg(test)]
mod tests {
    use nightgate_abi::Counter;

    use super::*;

    #[test]
    fn a_flow_is_reported_from_its_origin_with_the_names_of_what_it_matched() {
        let side = |address: &str, packets| FlowSide {
            address: address.parse().unwrap(),
            zone: None,
            sent: Counter { packets, bytes: packets * 100 },
        };
        let flow = FlowEntry {
            protocol: 6,
            origin: side("[fd01::2]:40000", 3),
            responder: side("[fd64::1]:80", 2),
            interface: None,
            rule: None,
            service: Some(9),
            mirror_session: Some(1),
            state: 0,
            first_seen: 0,
            last_seen: 1_500_000_000,
        };

        let report = flow_report(&flow, &InterceptTable::default(), Duration::from_secs(2));

        let report = serde_json::to_value(report).unwrap();
        assert_eq!(report["protocol"], "tcp");
        assert_eq!(
            (&report["origin"], &report["sent_bytes"]),
            (&"[fd01::2]:40000".into(), &300.into())
        );
        assert_eq!(report["received_packets"], 2);
        // The service has gone, its number stays.
        assert_eq!(report["service"], "#9");
        assert_eq!(report["idle_ms"], 500);
    }
}
