//! What can be read on the underlay, and what the sensor gets to see.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Result, ensure};

use super::{
    access::Access,
    configuration::{DARK_NAME, DARK_SERVICE, HIDDEN_NAME, MIRROR_VNI, WEB_NAME},
    deployment::Deployment,
    everyday::{COMMAND_MARKER, QUERY_MARKER},
    scenes::{DARK_MARKER, REQUEST_MARKER, RESPONSE_MARKER},
    topology::address,
};

/// A TLS record's type, RFC 8446 section 5.1.
const APPLICATION_DATA: &str = "23";
/// Where tshark has it, before TLS 1.3 and since.
const TLS_RECORDS: [&str; 2] = ["tls.record.content_type", "tls.record.opaque_type"];
/// What the wire must not show in any header: addresses of the LANs and those of intercepted names, and the
/// ports of the servers.
const INSIDE: &str = "ip.addr == 10.0.0.0/8 || ip.addr == 100.64.0.0/10 || ipv6.addr == fd00::/8 \
                      || tcp.port in {22, 80, 5201, 5432, 8080} || udp.port == 5201";
/// In a datagram that shows that a capture has come so far.
const END_MARKER: &str = "end-of-observation";

/// Nothing of what is carried is to be read between the gateways.
pub(super) fn look_at_underlay(deployment: &mut Deployment) -> Result<String> {
    let end = SocketAddr::new(address::CONTROLLER[0].parse()?, 9);
    deployment
        .topology
        .router
        .enter(|| UdpSocket::bind("0.0.0.0:0")?.send_to(END_MARKER.as_bytes(), end))??;
    let underlay = &deployment.underlay;
    underlay.wait_for(&format!("frame contains \"{END_MARKER}\""))?;
    let markers = [REQUEST_MARKER, RESPONSE_MARKER, DARK_MARKER, QUERY_MARKER, COMMAND_MARKER];
    let names = [WEB_NAME, DARK_NAME, "db.corp", "ssh.corp", "perf.corp", HIDDEN_NAME];
    let addresses = [address::CLIENT, address::SERVER].concat();
    let texts = markers.into_iter().chain(names).chain(addresses);
    let texts: Vec<String> = texts.map(|text| format!("frame contains \"{text}\"")).collect();
    let others =
        format!("!(tcp.port == 443 || arp || icmp || icmpv6 || frame contains \"{END_MARKER}\")");
    // In one pass, for the capture is long.
    let forbidden = format!("{} || {INSIDE} || {others}", texts.join(" || "));
    let found = underlay.fields(&forbidden, &["ip.src", "ip.dst", "_ws.col.Info"])?;
    ensure!(found.is_empty(), "to be read on the wire: {}", found.join("; "));
    let packets = underlay.fields("tcp.port == 443", &TLS_RECORDS)?;
    let kinds = packets.iter().flat_map(|packet| packet.split([',', '\t']));
    let records = kinds.filter(|kind| *kind == APPLICATION_DATA).count();
    ensure!(records > 0, "no TLS on port 443");
    let seen = format!(
        "{records} TLS records in {} packets, all of them TCP port 443; no content, service name, inner address \
         or port",
        packets.len()
    );
    deployment.note(Access::seen("the wire", "tshark on the underlay", &seen));
    Ok(seen)
}

/// The mirrored service is decoded, and no other.
pub(super) fn look_at_sensor(deployment: &mut Deployment) -> Result<String> {
    let sensor = &deployment.sensor;
    let inside = format!("vxlan.vni == {MIRROR_VNI} && http");
    let request = format!("{inside} && http.request.uri contains \"{REQUEST_MARKER}\"");
    let response = format!("{inside} && http.response && frame contains \"{RESPONSE_MARKER}\"");
    sensor.wait_for(&request)?;
    sensor.wait_for(&response)?;
    let dark = sensor.count(&format!("frame contains \"{DARK_MARKER}\""))?;
    ensure!(dark == 0, "{DARK_SERVICE} is not mirrored, but {dark} frames carry it");
    Ok(format!(
        "{} HTTP requests and {} responses decoded in VNI {MIRROR_VNI}",
        sensor.count(&request)?,
        sensor.count(&response)?
    ))
}
