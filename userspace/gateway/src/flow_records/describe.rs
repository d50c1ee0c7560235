//! From a flow in the kernel's tables to its record.

use std::{net::SocketAddr, time::Duration};

use nightgate_abi::{Address, Flow, FlowKey, Hook};
use nightgate_datapath::{FlowEntry, FlowSide, PacketEnds, PacketEvent};
use nightgate_mirror::flow::{
    DnsAsked, DropSummary, EndReason, EventType, FlowCounts, FlowEnds, FlowId, FlowRecord, Nat,
    TcpSummary, Told, Verdict, community_id, protocol_word,
};
use nightgate_model::{id::IdentityId, replica::Replica};
use nightgate_packet::protocol;

use super::Sources;
use crate::{
    asked::Asked, carried::Carried, clock::Clock, firewall::Firewall, intercept::InterceptTable,
};

/// What a flow's numbers mean.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) firewall: &'a Firewall,
    pub(crate) table: &'a InterceptTable,
    pub(crate) replica: &'a Replica,
    pub(crate) gateway: &'a IdentityId,
    pub(crate) clock: Clock,
}

impl View<'_> {
    /// The record of a flow.
    pub(super) fn record(&self, told: &Told, sources: &Sources) -> FlowRecord {
        let Told { key, flow, reason } = told;
        let entry = self.firewall.datapath.describe_flow(key, flow);
        let ends = [entry.origin.address, entry.responder.address];
        let carried = sources.carried.find(key.protocol, ends);
        let is_message = [protocol::ICMP, protocol::ICMPV6].contains(&key.protocol);
        let port = |end: SocketAddr| (!is_message && end.port() != 0).then(|| end.port());
        let interface = |index| self.firewall.datapath.interface_name(index);
        FlowRecord {
            timestamp: self.date(self.clock.now()),
            event_type: EventType::Flow,
            host: self.identity(self.gateway),
            flow_id: FlowId::new(key, flow),
            in_iface: entry.interface.map(interface),
            src_ip: ends[0].ip(),
            src_port: port(ends[0]),
            dest_ip: ends[1].ip(),
            dest_port: port(ends[1]),
            proto: protocol_word(key.protocol),
            icmp_type: is_message.then_some(key.icmp_type),
            icmp_code: is_message.then_some(key.icmp_code),
            community_id: Some(community_id(&flow_ends(key, ends))),
            src_zone: zone(&entry.origin),
            dest_zone: zone(&entry.responder),
            verdict: Verdict::Accept,
            rule: entry.rule.as_ref().map(ToString::to_string),
            service: self.service(&entry, carried.as_ref()),
            identity: carried.as_ref().map(|carried| self.identity(&carried.dialer)),
            circuit: carried.as_ref().map(|carried| carried.circuit.to_string()),
            process: None,
            mirrored: entry.mirror_session.is_some(),
            nat: nat(&entry),
            tcp: TcpSummary::new(key, flow),
            tls: sources.carried.tls(key.protocol, ends),
            dns: asked(told, ends, &sources.asked),
            drop: None,
            flow: Some(FlowCounts {
                pkts_toserver: Some(flow.packets[0]),
                pkts_toclient: Some(flow.packets[1]),
                bytes_toserver: flow.bytes[0],
                bytes_toclient: flow.bytes[1],
                start: self.date(flow.first_seen),
                end: self.date(flow.last_seen),
                age: duration(flow).as_secs(),
                duration_ms: u64::try_from(duration(flow).as_millis()).unwrap_or(u64::MAX),
                state: flow.phase().into(),
                reason: *reason,
            }),
        }
    }

    /// The record of a packet that was refused; `None` if it has no addresses.
    pub(super) fn refused(&self, packet: &PacketEvent) -> Option<FlowRecord> {
        let PacketEnds { protocol, source, destination, tcp_flags } = packet.ip?;
        let is_message = [protocol::ICMP, protocol::ICMPV6].contains(&protocol);
        let port = |end: SocketAddr| (!is_message && end.port() != 0).then(|| end.port());
        let [from, to] = [source, destination].map(|end| (Address::from(end.ip()), end.port()));
        let (key, _) = FlowKey::new(protocol, from, to);
        let ends = FlowEnds { protocol, source, destination, message: [0; 2] };
        let is_ingress = packet.hook == Hook::Ingress;
        Some(FlowRecord {
            timestamp: self.date(packet.at),
            event_type: EventType::Drop,
            host: self.identity(self.gateway),
            flow_id: FlowId::new(&key, &Flow { first_seen: packet.at, ..Flow::default() }),
            in_iface: is_ingress.then(|| packet.interface.clone()),
            src_ip: source.ip(),
            src_port: port(source),
            dest_ip: destination.ip(),
            dest_port: port(destination),
            proto: protocol_word(protocol),
            icmp_type: None,
            icmp_code: None,
            community_id: (!is_message).then(|| community_id(&ends)),
            src_zone: packet.from.as_ref().map(ToString::to_string),
            dest_zone: packet.to.as_ref().map(ToString::to_string),
            verdict: Verdict::Drop,
            rule: packet.rule.as_ref().map(ToString::to_string),
            service: None,
            identity: None,
            circuit: None,
            process: None,
            mirrored: false,
            nat: None,
            tcp: (protocol == protocol::TCP).then(|| TcpSummary::of(tcp_flags, 0)),
            tls: None,
            dns: None,
            flow: None,
            drop: Some(DropSummary {
                reason: packet.reason.as_str().into(),
                hook: packet.hook.as_str().into(),
                len: packet.length,
                suppressed: packet.suppressed,
            }),
        })
    }

    fn date(&self, nanoseconds: u64) -> String {
        self.clock.exact_date(nanoseconds).unwrap_or_default()
    }

    /// The name of an identity, or its id if the model does not know it any more.
    fn identity(&self, id: &IdentityId) -> String {
        let known = self.replica.identities.get(id);
        known.map_or_else(|| id.to_string(), |identity| identity.name.clone())
    }

    fn service(&self, entry: &FlowEntry, carried: Option<&Carried>) -> Option<String> {
        if let Some(Carried { service, .. }) = carried {
            let known = self.replica.services.get(service);
            return Some(known.map_or_else(|| service.to_string(), |known| known.name.clone()));
        }
        self.table.name_of(entry.service?).map(str::to_owned)
    }
}

fn flow_ends(key: &FlowKey, [source, destination]: [SocketAddr; 2]) -> FlowEnds {
    let message = [key.icmp_type, key.icmp_code];
    FlowEnds { protocol: key.protocol, source, destination, message }
}

/// What a flow to the private DNS has asked; known until it has ended.
fn asked(told: &Told, [client, server]: [SocketAddr; 2], asked: &Asked) -> Option<DnsAsked> {
    let protocol = told.key.protocol;
    let found = asked.find(protocol, client, server.port())?;
    if told.reason != EndReason::ActiveTimeout {
        asked.forget(protocol, client, server.port());
    }
    Some(found)
}

fn zone(side: &FlowSide) -> Option<String> {
    side.zone.as_ref().map(ToString::to_string)
}

fn nat(entry: &FlowEntry) -> Option<Nat> {
    let [source, destination] = [&entry.origin, &entry.responder].map(|side| side.appears_as);
    if source.is_none() && destination.is_none() {
        return None;
    }
    Some(Nat {
        src_ip: source.map(|end| end.ip()),
        src_port: source.map(|end| end.port()),
        dest_ip: destination.map(|end| end.ip()),
        dest_port: destination.map(|end| end.port()),
    })
}

fn duration(flow: &Flow) -> Duration {
    Duration::from_nanos(flow.last_seen.saturating_sub(flow.first_seen))
}
