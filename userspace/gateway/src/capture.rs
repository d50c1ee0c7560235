//! Capture files, with what is known of each frame's flow.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use nightgate_config::Gateway;
use nightgate_export::{Capture, CaptureError};
use nightgate_mirror::flow::{FlowEnds, community_id};
use nightgate_model::replica::Replica;
use nightgate_packet::{HostFrame, Packet, parse};
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
    let describe =
        move |frame: &[u8]| comment(frame, |flow| words(flow, &carried, &replica.borrow()));
    Capture::start(config, Box::new(describe), metrics).map(Some)
}

/// What is known of the flow of a frame, as words that filters find: those that `words` has for it, and its Community ID. Empty
/// for what is no IP packet, or a broken one: it is of no flow. Copies of what a host says to itself have loopback addresses.
pub fn comment(frame: &[u8], words: impl Fn(&FlowEnds) -> Option<String>) -> String {
    let Ok(Packet::Ip(meta)) = parse(&HostFrame(frame)) else { return String::new() };
    let end = |address: IpAddr, port| SocketAddr::new(address, port);
    let flow = FlowEnds {
        protocol: meta.protocol,
        source: end(meta.source.to_ip(), meta.source_port),
        destination: end(meta.destination.to_ip(), meta.destination_port),
        message: [meta.icmp_type, meta.icmp_code],
    };
    let id = community_id(&flow);
    match words(&flow) {
        Some(words) => format!("{words} community_id={id}"),
        None => format!("community_id={id}"),
    }
}

/// `service=web identity=alice circuit=1f`, if a circuit carries it.
fn words(flow: &FlowEnds, carried: &CarriedFlows, replica: &Replica) -> Option<String> {
    let known = carried.find(flow.protocol, [flow.source, flow.destination])?;
    let service = replica.services.get(&known.service);
    let service = service.map_or(known.service.as_str(), |service| &service.name);
    let identity = replica.identities.get(&known.dialer);
    let identity = identity.map_or(known.dialer.as_str(), |identity| &identity.name);
    let circuit = known.circuit;
    Some(format!("service={service} identity={identity} circuit={circuit}"))
}

#[cfg(test)]
mod tests {
    use nightgate_model::id::{IdentityId, ServiceId};
    use nightgate_router::CircuitId;

    use super::*;
    use crate::carried::Carried;

    #[test]
    fn a_flow_is_known_while_a_circuit_carries_it() {
        let [source, destination] =
            ["10.1.0.2:40000", "100.64.0.1:80"].map(|end| end.parse().unwrap());
        let flow = FlowEnds { protocol: 6, source, destination, message: [0; 2] };
        let flows = CarriedFlows::default();
        let model = Replica::default();
        assert_eq!(words(&flow, &flows, &model), None);
        let (service, dialer) = (ServiceId::new("s1"), IdentityId::new("i1"));
        let carried = Carried { service, dialer, circuit: CircuitId(31), client: None };
        let _listed = flows.enter(6, [source, destination], carried);
        let expected = format!("service=s1 identity=i1 circuit={}", CircuitId(31));
        assert_eq!(words(&flow, &flows, &model), Some(expected));
    }

    #[test]
    fn packets_have_a_comment_and_other_frames_have_none() {
        let said = |frame: &[u8]| comment(frame, |flow| Some(format!("to={}", flow.destination)));
        assert_eq!(said(&[0; 60]), "");
        // A datagram without data from 127.0.0.1 to itself.
        let mut frame = [0; 14 + 20 + 8];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14..18].copy_from_slice(&[0x45, 0, 0, 28]);
        frame[22..24].copy_from_slice(&[64, 17]);
        frame[26..34].copy_from_slice(&[127, 0, 0, 1, 127, 0, 0, 1]);
        frame[34..40].copy_from_slice(&[0x9c, 0x40, 0, 80, 0, 8]);
        let comment = said(&frame);
        assert!(comment.starts_with("to=127.0.0.1:80 community_id=1:"), "{comment}");
    }
}
