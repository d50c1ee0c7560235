//! Names and configuration files of the demo.

use super::{
    topology::{Family, address},
    verdict::{LIMIT, alerts_file},
};

/// Name of the public router.
pub(crate) const ROUTER: &str = "r1";
/// Name of another public router.
pub(crate) const ROUTER_2: &str = "r2";
/// Name of the gateway before the client.
pub(crate) const GATEWAY_A: &str = "gw-a";
/// Name of the gateway before the web server.
pub(crate) const GATEWAY_B: &str = "gw-b";
/// Identity of the application that hosts by the SDK.
pub(crate) const SDK_IDENTITY: &str = "app";
/// Identity of a tunneler on the SDK host.
pub const TUNNELER: &str = "laptop";
/// Service behind gateway B.
pub(crate) const WEB_SERVICE: &str = "web";
/// The name by which the client knows it.
pub(crate) const WEB_NAME: &str = "web.corp";
/// Service that sends a lot, behind gateway B.
pub(crate) const FILE_SERVICE: &str = "files";
/// The name by which the client knows it.
pub(crate) const FILE_NAME: &str = "files.corp";
/// PostgreSQL, OpenSSH and iperf3 behind gateway B; their names are these below `corp`.
pub(crate) const DATABASE_SERVICE: &str = "db";
/// As [`DATABASE_SERVICE`].
pub(crate) const SSH_SERVICE: &str = "ssh";
/// As [`DATABASE_SERVICE`].
pub(crate) const PERFORMANCE_SERVICE: &str = "perf";
/// Service behind gateway B that the client may not use.
pub(crate) const HIDDEN_SERVICE: &str = "payroll";
/// Its name.
pub(crate) const HIDDEN_NAME: &str = "payroll.corp";
/// Where PostgreSQL listens.
pub(crate) const DATABASE_PORT: u16 = 5432;
/// Where OpenSSH listens.
pub(crate) const SSH_PORT: u16 = 22;
/// Where iperf3 listens, by TCP and UDP.
pub(crate) const PERFORMANCE_PORT: u16 = 5201;
/// Service of the application.
pub(crate) const DARK_SERVICE: &str = "dark";
/// The name by which the client knows it.
pub(crate) const DARK_NAME: &str = "dark.corp";
/// The SDK example that hosts a web page.
pub(crate) const SDK_HOST_EXAMPLE: &str = "axum_hidden";
/// The SDK example that fetches a web page.
pub(crate) const SDK_CLIENT_EXAMPLE: &str = "web_client";
/// VXLAN network identifier of the mirror session.
pub(crate) const MIRROR_VNI: u32 = 42;

const WEB_PORT: u16 = 8080;
const FILE_PORT: u16 = 8081;

/// Where everybody reaches the controller.
pub(crate) fn controller(family: Family) -> String {
    family.with_port(address::CONTROLLER, 443)
}

/// Where clients and gateways reach the router.
pub(crate) fn router_address(family: Family) -> String {
    family.with_port(address::ROUTER, 443)
}

/// Where the web server listens.
pub(crate) fn web_server(family: Family) -> String {
    family.with_port(address::SERVER, WEB_PORT)
}

/// Where the server of files listens.
pub(crate) fn file_server(family: Family) -> String {
    family.with_port(address::SERVER, FILE_PORT)
}

/// Where clients and gateways reach the other router.
pub(crate) fn router_2_address(family: Family) -> String {
    family.with_port(address::ROUTER_2, 443)
}

/// The router that everybody dials.
pub(crate) fn router(socket: &str, family: Family) -> String {
    public_router(ROUTER, &router_address(family), socket)
}

/// Another router that everybody dials.
pub(crate) fn router_2(socket: &str, family: Family) -> String {
    public_router(ROUTER_2, &router_2_address(family), socket)
}

fn public_router(name: &str, address: &str, socket: &str) -> String {
    format!(
        "version: 1
router:
  identity: {name}.json
  listen: '{address}'
  advertise: '{address}'
  legacy_clients: true
admin_socket: {socket}
"
    )
}

/// The gateway that intercepts for its LAN, and mirrors.
pub(crate) fn gateway_a(socket: &str, family: Family) -> String {
    let [dns_v4, dns_v6] = [Family::V4, Family::V6].map(|of| of.with_port(address::GATEWAY_A, 53));
    let sensor = family.of(address::SENSOR);
    format!(
        "version: 1
router:
  identity: {GATEWAY_A}.json
admin_socket: {socket}
zones:
  lan: {{ interfaces: [lan0] }}
  wan: {{ interfaces: [und0] }}
rules:
  - {{ id: dns, from: lan, to: local, protocol: udp, destination_ports: [53], action: accept }}
  - {{ id: dns-tcp, from: lan, to: local, protocol: tcp, destination_ports: [53], action: accept }}
  - {{ id: overlay, from: lan, to: overlay, action: accept }}
  - {{ id: uplink, from: local, to: wan, protocol: tcp, destination_ports: [443], action: accept }}
dns:
  listen: ['{dns_v4}', '{dns_v6}']
  range_v4: 100.64.0.0/10
  range_v6: fd64:6e67::/64
mirror:
  sensors:
    ids: {{ address: '{sensor}', interface: mon0 }}
  sessions:
    - {{ id: web, services: [{WEB_SERVICE}], sensor: ids, vni: {MIRROR_VNI} }}
"
    )
}

/// The gateway that hosts: nothing may come in from outside.
pub(crate) fn gateway_b(socket: &str, _: Family) -> String {
    let alerts = alerts_file(socket);
    format!(
        "version: 1
router:
  identity: {GATEWAY_B}.json
admin_socket: {socket}
zones:
  lan: {{ interfaces: [lan0] }}
  wan: {{ interfaces: [und0] }}
rules:
  - {{ id: web, from: local, to: lan, protocol: tcp, destination_ports: [{WEB_PORT}, {FILE_PORT}], action: accept }}
  - {{ id: servers, from: local, to: lan, protocol: tcp,
      destination_ports: [{DATABASE_PORT}, {SSH_PORT}, {PERFORMANCE_PORT}], action: accept }}
  - {{ id: datagrams, from: local, to: lan, protocol: udp, destination_ports: [{PERFORMANCE_PORT}], action: accept }}
  - {{ id: uplink, from: local, to: wan, protocol: tcp, destination_ports: [443], action: accept }}
verdict:
  alerts: [{{ eve: '{alerts}' }}]
  policy:
    - {{ id: grave, severity: 1, action: quarantine, for: 10m }}
    - {{ id: scans, severity: 2, action: rate-limit, rate: {LIMIT}, for: 10m }}
    - {{ id: others, action: observe }}
"
    )
}
