//! Capture files, with what is known of each frame's flow.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use nightgate_config::Gateway;
use nightgate_export::{Capture, CaptureError};
use nightgate_mirror::flow::{FlowEnds, community_id};
use nightgate_model::replica::Replica;
use nightgate_packet::{Packet, PacketMeta, parse};
use nightgate_telemetry::Metrics;
use tokio::sync::watch;

use crate::carried::CarriedFlows;

/// Begins to write capture files, if the configuration wants them.
///
/// # Errors
/// The interface is not there, or may not be looked at.
pub(crate) fn start(
    gateway: &Gateway,
    carried: CarriedFlows,
    replica: watch::Receiver<Arc<Replica>>,
    metrics: &Metrics,
) -> Result<Option<Capture>, CaptureError> {
    let Some(config) = &gateway.telemetry.packets else { return Ok(None) };
    let describe = move |frame: &[u8]| match parse(&frame) {
        Ok(Packet::Ip(meta)) => comment(&meta, &carried, &replica.borrow()),
        // What is no IP packet, or a broken one, is of no flow.
        Ok(Packet::Arp | Packet::NeighbourDiscovery) | Err(_) => String::new(),
    };
    Capture::start(config, Box::new(describe), metrics).map(Some)
}

/// What is known of a packet's flow, as words that filters find: `service=web identity=alice`.
fn comment(meta: &PacketMeta, carried: &CarriedFlows, replica: &Replica) -> String {
    let end = |address: IpAddr, port| SocketAddr::new(address, port);
    let source = end(meta.source.to_ip(), meta.source_port);
    let destination = end(meta.destination.to_ip(), meta.destination_port);
    let message = [meta.icmp_type, meta.icmp_code];
    let protocol = meta.protocol;
    let id = community_id(&FlowEnds { protocol, source, destination, message });
    let Some(known) = carried.find(protocol, [source, destination]) else {
        return format!("community_id={id}");
    };
    let service = replica.services.get(&known.service);
    let service = service.map_or(known.service.as_str(), |service| &service.name);
    let identity = replica.identities.get(&known.dialer);
    let identity = identity.map_or(known.dialer.as_str(), |identity| &identity.name);
    let circuit = known.circuit;
    format!("service={service} identity={identity} circuit={circuit} community_id={id}")
}

#[cfg(test)]
mod tests {
    use nightgate_abi::Address;
    use nightgate_model::id::{IdentityId, ServiceId};
    use nightgate_router::CircuitId;

    use super::*;
    use crate::carried::Carried;

    #[test]
    fn a_packet_of_either_direction_is_of_its_flow() {
        let ends = [([10, 1, 0, 2], 40_000), ([100, 64, 0, 1], 80)];
        let meta = |[a, b]: [([u8; 4], u16); 2]| {
            let end = |(address, port)| (Address::from_v4(address), port);
            PacketMeta::between(6, end(a), end(b))
        };
        let flows = CarriedFlows::default();
        let model = Replica::default();
        let unknown = comment(&meta(ends), &flows, &model);
        assert!(unknown.starts_with("community_id=1:"), "{unknown}");
        let (service, dialer) = (ServiceId::new("s1"), IdentityId::new("i1"));
        let carried = Carried { service, dialer, circuit: CircuitId(31), client: None };
        let addresses = ends.map(|(address, port)| SocketAddr::new(address.into(), port));
        let _listed = flows.enter(6, addresses, carried);
        let known = comment(&meta(ends), &flows, &model);
        let circuit = CircuitId(31);
        assert_eq!(known, format!("service=s1 identity=i1 circuit={circuit} {unknown}"));
        assert_eq!(comment(&meta([ends[1], ends[0]]), &flows, &model), known);
    }
}
