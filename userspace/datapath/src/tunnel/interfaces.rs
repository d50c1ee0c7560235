//! Hooks on interfaces.

use super::*;
use crate::{datapath::classifier, link::take};

/// The program on the way out of interfaces with Ethernet headers.
const LEAVING: &str = "tunnel_leaving";
/// Of those without.
const LEAVING_RAW: &str = "tunnel_leaving_raw";
/// The program on the way into the loopback interface.
const ARRIVING: &str = "tunnel_arriving";

impl Tunnel {
    /// Attaches hooks to those of these interfaces that have none yet, and forgets those that are gone.
    ///
    /// # Errors
    /// The kernel refuses; others may have been attached.
    pub fn cover(&mut self, interfaces: &[TunnelInterface]) -> Result<(), DatapathError> {
        self.covered.retain(|index| interfaces.iter().any(|it| it.index == *index));
        for interface in interfaces {
            if !self.covered.contains(&interface.index) {
                let hook = self.attach_leaving(interface)?;
                self.keep(vec![hook])?;
            }
        }
        Ok(())
    }

    /// Number of the service that hooks on interfaces have taken a connection or flow for; `None` if they have not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn taken(
        &self,
        source: SocketAddr,
        destination: SocketAddr,
        protocol: u8,
    ) -> Result<Option<u32>, DatapathError> {
        let taken = map::hash::<Taken, u32>(&self.ebpf, maps::TAKEN)?;
        let ends = Taken {
            source: Address::from(source.ip()),
            destination: Address::from(destination.ip()),
            source_port: source.port(),
            destination_port: destination.port(),
            protocol,
            pad: [0; 3],
        };
        found(taken.get(&ends, 0)).map_err(failed("read", maps::TAKEN))
    }

    pub(super) fn attach_to_interfaces(
        &mut self,
        interfaces: &[TunnelInterface],
    ) -> Result<Vec<(String, FdLink)>, DatapathError> {
        let arriving = self.attach_to_interface(ARRIVING, "lo", TcAttachType::Ingress)?;
        let mut hooks = vec![("arriving".to_owned(), arriving)];
        for interface in interfaces {
            hooks.push(self.attach_leaving(interface)?);
        }
        Ok(hooks)
    }

    fn attach_leaving(
        &mut self,
        interface: &TunnelInterface,
    ) -> Result<(String, FdLink), DatapathError> {
        let program = if interface.has_ethernet { LEAVING } else { LEAVING_RAW };
        let link = self.attach_to_interface(program, &interface.name, TcAttachType::Egress)?;
        self.covered.insert(interface.index);
        Ok((format!("leaving-{}", interface.index), link))
    }

    pub(super) fn attach_to_interface(
        &mut self,
        name: &'static str,
        interface: &str,
        side: TcAttachType,
    ) -> Result<FdLink, DatapathError> {
        let program = classifier(&mut self.ebpf, name)?;
        let attach = |program: &mut SchedClassifier| {
            once(program.load())?;
            let id = program.attach(interface, side)?;
            take(program, id)
        };
        attach(program).map_err(refused("attach", name))
    }
}
