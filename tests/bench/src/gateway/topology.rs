//! Client, gateway A, gateway B, server, and a controller that both gateways reach.
//!
//! ```text
//! client eth0 -- lan0 A und0 -- und0 B lan0 -- eth0 server
//!                     ctl0 -- controller -- ctl0
//! ```

use anyhow::Result;
use nightgate_lab::{Bridge, Impairment, Namespace, Wire, veth};

/// Addresses of the topology, all in networks of 24 bits.
pub(super) mod address {
    /// The client.
    pub(in crate::gateway) const CLIENT: &str = "10.1.0.2";
    /// Gateway A towards the client.
    pub(in crate::gateway) const LAN_A: &str = "10.1.0.1";
    /// Gateway A towards gateway B (RFC 5737).
    pub(in crate::gateway) const UNDERLAY_A: &str = "192.0.2.1";
    /// Gateway B towards gateway A.
    pub(in crate::gateway) const UNDERLAY_B: &str = "192.0.2.2";
    /// Gateway B towards the server.
    pub(in crate::gateway) const LAN_B: &str = "10.2.0.1";
    /// The server.
    pub(in crate::gateway) const SERVER: &str = "10.2.0.2";
    /// The controller.
    pub(in crate::gateway) const CONTROLLER: &str = "198.51.100.10";
    const CONTROL_A: &str = "198.51.100.1";
    const CONTROL_B: &str = "198.51.100.2";

    /// Interfaces of the gateways that lead to the controller.
    pub(super) const CONTROL: [&str; 2] = [CONTROL_A, CONTROL_B];
}

/// Where the server listens.
pub(super) const PORT: u16 = 7_000;

/// Five namespaces and the links between them. Interfaces have the offloads that the kernel gives them.
#[derive(Debug)]
pub(super) struct Topology {
    /// Between the gateways, if it is not a cable.
    wire: Option<Wire>,
    pub(super) client: Namespace,
    pub(super) gateway_a: Namespace,
    pub(super) gateway_b: Namespace,
    pub(super) server: Namespace,
    pub(super) controller: Namespace,
}

impl Topology {
    pub(super) fn new() -> Result<Self> {
        Self::with(None)
    }

    /// With a wire between the gateways that delays and loses frames.
    pub(super) fn with(impairment: Option<Impairment>) -> Result<Self> {
        let mut own = Self {
            wire: None,
            client: Namespace::new("client")?,
            gateway_a: Namespace::new("gateway-a")?,
            gateway_b: Namespace::new("gateway-b")?,
            server: Namespace::new("server")?,
            controller: Namespace::new("controller")?,
        };
        own.connect(impairment)?;
        own.address()?;
        Ok(own)
    }

    /// Both gateways.
    pub(super) fn gateways(&self) -> [&Namespace; 2] {
        [&self.gateway_a, &self.gateway_b]
    }

    /// Lets the gateways forward between client and server, over a way between them that may be a tunnel.
    pub(super) fn forward(&self, [via_a, via_b]: [&str; 2]) -> Result<()> {
        for gateway in self.gateways() {
            gateway.set("net/ipv4/ip_forward", "1")?;
        }
        self.gateway_a.ip(&format!("route add 10.2.0.0/24 {via_b}"))?;
        self.gateway_b.ip(&format!("route add 10.1.0.0/24 {via_a}")).map(drop)
    }

    fn connect(&mut self, impairment: Option<Impairment>) -> Result<()> {
        veth((&self.client, "eth0"), (&self.gateway_a, "lan0"))?;
        let underlay = [(&self.gateway_a, "und0"), (&self.gateway_b, "und0")];
        match impairment {
            None => veth(underlay[0], underlay[1])?,
            Some(impairment) => {
                let wire = Wire::new(underlay[0], underlay[1], 1)?;
                wire.impair_both(impairment);
                self.wire = Some(wire);
            }
        }
        veth((&self.gateway_b, "lan0"), (&self.server, "eth0"))?;
        let bridge = Bridge::new(&self.controller, "br0")?;
        for (port, gateway) in ["port-a", "port-b"].into_iter().zip(self.gateways()) {
            bridge.plug(port, (gateway, "ctl0"))?;
        }
        Ok(())
    }

    fn address(&self) -> Result<()> {
        let [control_a, control_b] = address::CONTROL;
        for (namespace, interface, address) in [
            (&self.client, "eth0", address::CLIENT),
            (&self.gateway_a, "lan0", address::LAN_A),
            (&self.gateway_a, "und0", address::UNDERLAY_A),
            (&self.gateway_a, "ctl0", control_a),
            (&self.gateway_b, "lan0", address::LAN_B),
            (&self.gateway_b, "und0", address::UNDERLAY_B),
            (&self.gateway_b, "ctl0", control_b),
            (&self.server, "eth0", address::SERVER),
            (&self.controller, "br0", address::CONTROLLER),
        ] {
            namespace.add_address(interface, &format!("{address}/24"))?;
        }
        self.client.add_route("default", address::LAN_A)?;
        self.server.add_route("default", address::LAN_B)
    }
}
