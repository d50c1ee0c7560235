//! What the admin socket tells about tracked flows.

use std::net::{IpAddr, SocketAddr};

use nightgate_datapath::{DatapathError, FlowEntry, FlowSide};
use nightgate_mirror::verdict::Ends;
use nightgate_packet::{PacketMeta, protocol};
use serde::Serialize;

use crate::{
    admin::{FlowOrder, FlowRequest, KillRequest},
    clock::Clock,
    ends::plain,
    filter::FilterError,
    firewall::Firewall,
    flow_filter::{FlowFilter, Seen},
    intercept::InterceptTable,
    trace::protocol_name,
};

/// An element of the answer to [`crate::admin::Topic::Flows`].
#[derive(Clone, Debug, Serialize)]
pub struct FlowReport {
    protocol: String,
    origin: String,
    destination: String,
    /// Whom the destination knows the origin as, if that is another.
    origin_appears_as: Option<String>,
    /// Whom the origin knows the destination as, if that is another.
    destination_appears_as: Option<String>,
    pub(crate) zones: [Option<String>; 2],
    pub(crate) rule: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) state: &'static str,
    mirrored: bool,
    sent_packets: u64,
    sent_bytes: u64,
    received_packets: u64,
    received_bytes: u64,
    age_ms: u128,
    idle_ms: u128,
}

/// Answer to [`crate::admin::Request::KillFlows`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KillReport {
    flows: usize,
    /// Whether they are gone.
    killed: bool,
}

/// Flows that cannot be told about.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// It is not clear which are meant.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The kernel refuses.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

impl FlowReport {
    /// Everything that is a word.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        let zones = self.zones.iter().flatten();
        let names = [&self.rule, &self.service].into_iter().flatten();
        let ends = [&self.protocol, &self.origin, &self.destination];
        ends.into_iter().chain(zones).chain(names).map(String::as_str).chain([self.state])
    }
}

impl Firewall {
    /// The tracked flows that are asked for.
    ///
    /// # Errors
    /// A condition is not understood, or the kernel refuses.
    pub fn flow_reports(
        &self,
        request: &FlowRequest,
        table: &InterceptTable,
        clock: &Clock,
    ) -> Result<Vec<FlowReport>, FlowError> {
        let filter = FlowFilter::parse(&request.filter)?;
        let mut flows = self.datapath.flows()?;
        flows.sort_by_key(|flow| match request.sort {
            FlowOrder::Idle => u64::MAX - flow.last_seen,
            FlowOrder::Age => flow.first_seen,
            FlowOrder::Bytes => u64::MAX - flow.origin.sent.bytes - flow.responder.sent.bytes,
        });
        let limit = request.limit.unwrap_or(usize::MAX);
        let mut reports = Vec::new();
        for flow in &flows {
            let report = flow_report(flow, table, clock);
            if reports.len() < limit && filter.matches(Seen { flow, report: &report, clock }) {
                reports.push(report);
            }
        }
        Ok(reports)
    }

    /// Removes the flows that are meant, or only finds out how many they are. Their next packets are judged anew.
    ///
    /// # Errors
    /// A condition is not understood, or the kernel refuses.
    pub fn kill_flows(
        &mut self,
        request: &KillRequest,
        table: &InterceptTable,
        clock: &Clock,
    ) -> Result<KillReport, FlowError> {
        let filter = FlowFilter::parse(&request.filter)?;
        let is_meant = |flow: &FlowEntry| {
            let report = flow_report(flow, table, clock);
            filter.matches(Seen { flow, report: &report, clock })
        };
        if request.dry_run {
            let flows = self.datapath.flows()?.iter().filter(|flow| is_meant(flow)).count();
            return Ok(KillReport { flows, killed: false });
        }
        let flows = self.datapath.kill_flows(is_meant)?;
        tracing::info!(filter = request.filter.join(" "), flows, "flows were killed");
        Ok(KillReport { flows, killed: true })
    }

    /// Ends the flow between two ends, whichever of them began it; gives how many there were.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn end_flow_between(&mut self, ends: Ends) -> Result<usize, DatapathError> {
        let (client, server) = (plain(ends.client), plain(ends.server));
        self.datapath.kill_flows(|flow: &FlowEntry| {
            let (origin, responder) = (flow.origin.address, flow.responder.address);
            flow.protocol == ends.protocol
                && ((origin, responder) == (client, server)
                    || (origin, responder) == (server, client))
        })
    }

    /// The tracked flow that a packet belongs to, whichever end sends it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn flow_of(
        &self,
        packet: &PacketMeta,
        table: &InterceptTable,
        clock: &Clock,
    ) -> Result<Option<FlowReport>, DatapathError> {
        // An ICMP query's identifier, which stands in the ports' place, is nobody's to know beforehand.
        let has_ports = [protocol::TCP, protocol::UDP].contains(&packet.protocol);
        let end = |ip: IpAddr, port| SocketAddr::new(ip, if has_ports { port } else { 0 });
        let ends = [
            end(packet.source.to_ip(), packet.source_port),
            end(packet.destination.to_ip(), packet.destination_port),
        ];
        let is_it = |flow: &&FlowEntry| {
            let [origin, responder] = [flow.origin.address, flow.responder.address]
                .map(|address| end(address.ip(), address.port()));
            flow.protocol == packet.protocol
                && (ends == [origin, responder] || ends == [responder, origin])
        };
        let flows = self.datapath.flows()?;
        Ok(flows.iter().find(is_it).map(|flow| flow_report(flow, table, clock)))
    }
}

fn flow_report(flow: &FlowEntry, table: &InterceptTable, clock: &Clock) -> FlowReport {
    let zone = |side: &FlowSide| side.zone.as_ref().map(ToString::to_string);
    let service =
        flow.service.map(|tag| table.name_of(tag).map_or_else(|| format!("#{tag}"), str::to_owned));
    FlowReport {
        protocol: protocol_name(flow.protocol),
        origin: flow.origin.address.to_string(),
        destination: flow.responder.address.to_string(),
        origin_appears_as: flow.origin.appears_as.map(|address| address.to_string()),
        destination_appears_as: flow.responder.appears_as.map(|address| address.to_string()),
        zones: [zone(&flow.origin), zone(&flow.responder)],
        rule: flow.rule.as_ref().map(ToString::to_string),
        service,
        state: flow.phase.as_str(),
        mirrored: flow.mirror_session.is_some(),
        sent_packets: flow.origin.sent.packets,
        sent_bytes: flow.origin.sent.bytes,
        received_packets: flow.responder.sent.packets,
        received_bytes: flow.responder.sent.bytes,
        age_ms: clock.age(flow.first_seen).unwrap_or_default().as_millis(),
        idle_ms: clock.age(flow.last_seen).unwrap_or_default().as_millis(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nightgate_abi::{Counter, flow::Phase};

    use super::*;

    #[test]
    fn a_flow_is_reported_from_its_origin_with_the_names_of_what_it_matched() {
        let side = |address: &str, packets| FlowSide {
            address: address.parse().unwrap(),
            zone: None,
            sent: Counter { packets, bytes: packets * 100 },
            appears_as: None,
        };
        let flow = FlowEntry {
            protocol: 6,
            origin: side("[fd01::2]:40000", 3),
            responder: side("[fd64::1]:80", 2),
            interface: None,
            rule: None,
            service: Some(9),
            mirror_session: Some(1),
            phase: Phase::Established,
            first_seen: 0,
            last_seen: 1_500_000_000,
        };

        let clock = Clock::at(Duration::from_secs(2), Duration::from_secs(1_000));
        let report = flow_report(&flow, &InterceptTable::default(), &clock);

        let report = serde_json::to_value(report).unwrap();
        assert_eq!(report["protocol"], "tcp");
        assert_eq!(
            (&report["origin"], &report["sent_bytes"]),
            (&"[fd01::2]:40000".into(), &300.into())
        );
        assert_eq!(
            (&report["state"], &report["received_packets"]),
            (&"established".into(), &2.into())
        );
        // The service has gone, its number stays.
        assert_eq!(report["service"], "#9");
        assert_eq!(report["idle_ms"], 500);
    }
}
