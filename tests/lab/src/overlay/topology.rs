//! The network of the demo.
//!
//! ```text
//! client -- lan0 gateway A und0 --+-- underlay --+-- und0 gateway B lan0 -- server
//!                  mon0           |              |
//!                   |         routers       controller, SDK host
//!                 sensor      public server, attacker
//! ```

use anyhow::Result;

use crate::{
    link::{Bridge, veth},
    namespace::Namespace,
};

/// The IP version that something uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The address of this family.
    pub fn of(self, [v4, v6]: [&'static str; 2]) -> &'static str {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    /// `address:port`, or `[address]:port`.
    pub fn with_port(self, addresses: [&'static str; 2], port: u16) -> String {
        match self {
            Self::V4 => format!("{}:{port}", self.of(addresses)),
            Self::V6 => format!("[{}]:{port}", self.of(addresses)),
        }
    }
}

/// Addresses of the topology, both families.
pub mod address {
    /// The client on gateway A's LAN.
    pub const CLIENT: [&str; 2] = ["10.1.0.2", "fd00:1::2"];
    /// Gateway A on its LAN.
    pub const GATEWAY_A: [&str; 2] = ["10.1.0.1", "fd00:1::1"];
    /// Gateway B on its LAN.
    pub const GATEWAY_B: [&str; 2] = ["10.2.0.1", "fd00:2::1"];
    /// The server on gateway B's LAN.
    pub const SERVER: [&str; 2] = ["10.2.0.2", "fd00:2::2"];
    /// Gateway A on the sensor's network.
    pub const MONITOR: [&str; 2] = ["10.9.0.1", "fd00:9::1"];
    /// The sensor.
    pub const SENSOR: [&str; 2] = ["10.9.0.2", "fd00:9::2"];
    /// The controller on the underlay (RFC 5737, RFC 3849).
    pub const CONTROLLER: [&str; 2] = ["192.0.2.10", "2001:db8::10"];
    /// Gateway A on the underlay.
    pub const UNDERLAY_A: [&str; 2] = ["192.0.2.11", "2001:db8::11"];
    /// Gateway B on the underlay.
    pub const UNDERLAY_B: [&str; 2] = ["192.0.2.12", "2001:db8::12"];
    /// The router on the underlay.
    pub const ROUTER: [&str; 2] = ["192.0.2.20", "2001:db8::20"];
    /// Another router on the underlay.
    pub const ROUTER_2: [&str; 2] = ["192.0.2.21", "2001:db8::21"];
    /// The host of the SDK application on the underlay.
    pub const SDK_HOST: [&str; 2] = ["192.0.2.40", "2001:db8::40"];
    /// A server on the underlay that knows nothing of the overlay.
    pub const PUBLIC: [&str; 2] = ["192.0.2.50", "2001:db8::50"];
    /// Somebody on the underlay who means no good.
    pub const ATTACKER: [&str; 2] = ["192.0.2.66", "2001:db8::66"];
}

/// Largest packet on the sensor's network: a full Ethernet frame and what VXLAN over IPv6 adds, RFC 7348.
const MONITOR_MTU: u32 = 1600;

/// Twelve namespaces and the links between them.
#[derive(Debug)]
pub struct Topology {
    /// Runs a browser.
    pub client: Namespace,
    /// Interfaces `lan0`, `und0`, `mon0`.
    pub gateway_a: Namespace,
    /// Interfaces `lan0`, `und0`.
    pub gateway_b: Namespace,
    /// Runs a web server, on `eth0`.
    pub server: Namespace,
    /// The switch `br0` between gateways, router, controller and SDK host.
    pub underlay: Namespace,
    /// Interface `eth0`.
    pub router: Namespace,
    /// Interface `eth0`.
    pub router_2: Namespace,
    /// Interface `eth0`.
    pub controller: Namespace,
    /// Runs an application that hosts a service without a port; interface `eth0`.
    pub sdk_host: Namespace,
    /// A server that everybody reaches; interface `eth0`.
    pub public: Namespace,
    /// Interface `eth0`.
    pub attacker: Namespace,
    /// Decodes what gateway A mirrors; interface `eth0`.
    pub sensor: Namespace,
}

impl Topology {
    /// Makes all of it. Nothing runs yet.
    ///
    /// # Errors
    /// The process is not root, or `ip` is missing.
    pub fn new() -> Result<Self> {
        let own = Self {
            client: Namespace::new("client")?,
            gateway_a: Namespace::new("gateway-a")?,
            gateway_b: Namespace::new("gateway-b")?,
            server: Namespace::new("server")?,
            underlay: Namespace::new("underlay")?,
            router: Namespace::new("router")?,
            router_2: Namespace::new("router-2")?,
            controller: Namespace::new("controller")?,
            sdk_host: Namespace::new("sdk-host")?,
            public: Namespace::new("public")?,
            attacker: Namespace::new("attacker")?,
            sensor: Namespace::new("sensor")?,
        };
        own.connect_underlay()?;
        own.connect_lan((&own.client, address::CLIENT), (&own.gateway_a, address::GATEWAY_A))?;
        own.connect_lan((&own.server, address::SERVER), (&own.gateway_b, address::GATEWAY_B))?;
        own.connect_sensor()?;
        Ok(own)
    }

    fn connect_underlay(&self) -> Result<()> {
        let bridge = Bridge::new(&self.underlay, "br0")?;
        let ports = [
            ("port-a", &self.gateway_a, "und0", address::UNDERLAY_A),
            ("port-b", &self.gateway_b, "und0", address::UNDERLAY_B),
            ("port-router", &self.router, "eth0", address::ROUTER),
            ("port-router-2", &self.router_2, "eth0", address::ROUTER_2),
            ("port-controller", &self.controller, "eth0", address::CONTROLLER),
            ("port-sdk-host", &self.sdk_host, "eth0", address::SDK_HOST),
            ("port-public", &self.public, "eth0", address::PUBLIC),
            ("port-attacker", &self.attacker, "eth0", address::ATTACKER),
        ];
        for (port, namespace, interface, addresses) in ports {
            bridge.plug(port, (namespace, interface))?;
            add_addresses(namespace, interface, addresses)?;
        }
        Ok(())
    }

    fn connect_lan(
        &self,
        (host, host_addresses): (&Namespace, [&str; 2]),
        (gateway, gateway_addresses): (&Namespace, [&str; 2]),
    ) -> Result<()> {
        veth((host, "eth0"), (gateway, "lan0"))?;
        add_addresses(host, "eth0", host_addresses)?;
        add_addresses(gateway, "lan0", gateway_addresses)?;
        for address in gateway_addresses {
            host.add_route("default", address)?;
        }
        Ok(())
    }

    fn connect_sensor(&self) -> Result<()> {
        veth((&self.gateway_a, "mon0"), (&self.sensor, "eth0"))?;
        self.gateway_a.ip(&format!("link set mon0 mtu {MONITOR_MTU}"))?;
        self.sensor.ip(&format!("link set eth0 mtu {MONITOR_MTU}"))?;
        add_addresses(&self.gateway_a, "mon0", address::MONITOR)?;
        add_addresses(&self.sensor, "eth0", address::SENSOR)
    }
}

/// Prefix lengths are the same everywhere: 24 and 64.
fn add_addresses(namespace: &Namespace, interface: &str, [v4, v6]: [&str; 2]) -> Result<()> {
    namespace.add_address(interface, &format!("{v4}/24"))?;
    namespace.add_address(interface, &format!("{v6}/64"))
}
