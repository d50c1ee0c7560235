//! Client, gateway, server.

use anyhow::Result;
use nightgate_lab::{Namespace, veth};

/// The gateway's address towards the client.
pub(super) const GATEWAY: &str = "10.1.0.1";
/// The gateway's address towards the server.
pub(super) const OUTSIDE: &str = "10.2.0.1";
/// The client.
pub(super) const CLIENT: &str = "10.1.0.2";
/// The server.
pub(super) const SERVER: &str = "10.2.0.2";
/// Where gateway and server are spoken to.
pub(super) const PORT: u16 = 7000;

/// Three namespaces in a row; the gateway's interfaces are `lan0` and `wan0`.
#[derive(Debug)]
pub(super) struct Topology {
    pub(super) client: Namespace,
    pub(super) gateway: Namespace,
    pub(super) server: Namespace,
}

impl Topology {
    /// Makes it. Hosts send frames of the MTU: nothing segments for them, and nothing puts frames together.
    pub(super) fn new() -> Result<Self> {
        let [client, gateway, server] = ["client", "gateway", "server"].map(Namespace::new);
        let own = Self { client: client?, gateway: gateway?, server: server? };
        veth((&own.client, "eth0"), (&own.gateway, "lan0"))?;
        veth((&own.server, "eth0"), (&own.gateway, "wan0"))?;
        for (namespace, interface, address) in [
            (&own.client, "eth0", CLIENT),
            (&own.gateway, "lan0", GATEWAY),
            (&own.gateway, "wan0", OUTSIDE),
            (&own.server, "eth0", SERVER),
        ] {
            namespace.add_address(interface, &format!("{address}/24"))?;
            namespace.ip(&format!("link set {interface} gso_max_segs 1"))?;
        }
        own.client.add_route("default", GATEWAY)?;
        own.server.add_route("default", OUTSIDE)?;
        own.gateway.set("net/ipv4/ip_forward", "1")?;
        Ok(own)
    }
}
