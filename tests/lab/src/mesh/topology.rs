//! The network of a mesh.
//!
//! ```text
//! dialers --+           hub            +-- hosts
//!           |   controller, routers    |
//!          r1 ---- wires between ---- rN
//! ```
//! Each router has an address of both families that only its wires lead to, so two routers reach each other only
//! where a wire connects them. By the hub, everybody reaches the controller, and applications their router.

use anyhow::{Context as _, Result};

use crate::{Bridge, Namespace, Wire};

/// Where everybody reaches the controller.
pub(super) const CONTROLLER: &str = "10.78.0.100";
const DIALERS: &str = "10.78.0.101";
const HOSTS: &str = "10.78.0.102";

/// What names a router on its wires, both families (RFC 1918, RFC 4193).
pub(super) fn address(router: usize) -> [String; 2] {
    [format!("10.77.0.{router}"), format!("fd00:77::{router}")]
}

/// Namespaces and wires of a mesh.
#[derive(Debug)]
pub struct MeshTopology {
    wires: Vec<((usize, usize), Wire)>,
    routers: Vec<Namespace>,
    /// Reaches the controller and the first router.
    pub(super) dialers: Namespace,
    /// Reaches the controller and the last router.
    pub(super) hosts: Namespace,
    pub(super) controller: Namespace,
    _hub: Namespace,
}

impl MeshTopology {
    pub(super) fn new(count: usize, wires: &[(usize, usize)]) -> Result<Self> {
        let routers = (1..=count)
            .map(|router| Namespace::new(&format!("r{router}")))
            .collect::<Result<Vec<_>>>()?;
        let (hub, controller) = (Namespace::new("hub")?, Namespace::new("controller")?);
        let (dialers, hosts) = (Namespace::new("dialers")?, Namespace::new("hosts")?);
        let bridge = Bridge::new(&hub, "br0")?;
        for (router, namespace) in (1..).zip(&routers) {
            bridge.plug(&format!("r{router}"), (namespace, "hub0"))?;
            namespace.add_address("hub0", &format!("10.78.0.{router}/24"))?;
            let [v4, v6] = address(router);
            namespace.add_address("lo", &format!("{v4}/32"))?;
            namespace.add_address("lo", &format!("{v6}/128"))?;
        }
        let others = [
            ("controller", &controller, CONTROLLER),
            ("dialers", &dialers, DIALERS),
            ("hosts", &hosts, HOSTS),
        ];
        for (port, namespace, address) in others {
            bridge.plug(port, (namespace, "hub0"))?;
            namespace.add_address("hub0", &format!("{address}/24"))?;
        }
        for (namespace, router) in [(&dialers, 1), (&hosts, count)] {
            let [v4, _] = address(router);
            namespace.add_route(&v4, &format!("10.78.0.{router}"))?;
        }
        let mut own = Self { wires: Vec::new(), routers, dialers, hosts, controller, _hub: hub };
        for (number, &pair) in wires.iter().enumerate() {
            let wire = own.connect(pair, number as u64)?;
            own.wires.push((pair, wire));
        }
        Ok(own)
    }

    /// The namespace of a router.
    pub fn router(&self, number: usize) -> &Namespace {
        &self.routers[number - 1]
    }

    /// `address:port` where a router is reached. Routers at the ends, which applications reach too, and every
    /// second one between them are reached by IPv4, the others by IPv6.
    pub fn advertised(&self, router: usize) -> String {
        let [v4, v6] = address(router);
        if router == self.routers.len() || router % 2 == 1 {
            format!("{v4}:443")
        } else {
            format!("[{v6}]:443")
        }
    }

    pub(super) fn wire(&self, one: usize, other: usize) -> Result<&Wire> {
        let found =
            self.wires.iter().find(|(pair, _)| *pair == (one, other) || *pair == (other, one));
        Ok(&found.with_context(|| format!("no wire between r{one} and r{other}"))?.1)
    }

    fn connect(&self, (one, other): (usize, usize), seed: u64) -> Result<Wire> {
        let (left, right) = (format!("to-r{other}"), format!("to-r{one}"));
        let wire = Wire::new((self.router(one), &left), (self.router(other), &right), seed)?;
        for (own, interface, peer) in [(one, &left, other), (other, &right, one)] {
            // Neighbour discovery answers only for addresses of the interface that is asked.
            let [_, v6] = address(own);
            self.router(own).add_address(interface, &format!("{v6}/128"))?;
            for (own_address, peer) in address(own).iter().zip(address(peer)) {
                let family = if peer.contains(':') { "-6" } else { "-4" };
                self.router(own)
                    .ip(&format!("{family} route add {peer} dev {interface} src {own_address}"))?;
            }
        }
        Ok(wire)
    }
}
