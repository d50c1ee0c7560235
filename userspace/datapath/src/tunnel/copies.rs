//! Copies of what programs say to services and hear from them, for sensors.

use nightgate_abi::{Counter, mirror::MirrorSessionId};

use super::*;
use crate::{
    mirror::{self, MirrorMaps},
    statistics::MirrorStatistics,
};

/// The program where copies become frames for sensors.
const MIRROR: &str = "tunnel_mirror";
/// The program where packets are on their way to servers of hosted services and back.
const SERVING: &str = "tunnel_serving";

impl Tunnel {
    /// Whether some tunneler that lives takes copies at this interface: its program goes with its process.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn copies_at(peer: &str) -> Result<bool, DatapathError> {
        let programs = SchedClassifier::query_tcx(peer, TcAttachType::Ingress);
        programs.map(|(_, programs)| !programs.is_empty()).map_err(refused("look for", MIRROR))
    }

    /// Sends copies into a pair of interfaces: into `device`, from whose other end, `peer`, they leave for their sensors.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn attach_mirror(&mut self, device: &str, peer: &str) -> Result<(), DatapathError> {
        let link = self.attach_to_interface(MIRROR, peer, TcAttachType::Ingress)?;
        // It goes with the process, as the pair does.
        self.held.push(link);
        mirror::set_device(&mut self.ebpf, Some(IfIndex::of(device)?))
    }

    /// The mirror's sessions and sensors.
    pub fn mirror(&mut self) -> MirrorMaps<'_> {
        MirrorMaps::new(&mut self.ebpf)
    }

    /// Copies the flows of these services, by their numbers, that begin from now on, and of no others.
    ///
    /// # Errors
    /// The kernel refuses; some of the change may have been made.
    pub fn set_mirrored(
        &mut self,
        wanted: BTreeMap<u32, MirrorSessionId>,
    ) -> Result<(), DatapathError> {
        if wanted == self.mirrored {
            return Ok(());
        }
        let name = maps::MIRRORED;
        let mut table = map::hash_mut::<u32, u32>(&mut self.ebpf, name)?;
        for gone in self.mirrored.keys().filter(|service| !wanted.contains_key(service)) {
            map::removed(table.remove(gone)).map_err(failed("write", name))?;
        }
        for (service, session) in &wanted {
            let session = u32::from(session.number());
            table.insert(service, session, 0).map_err(failed("write", name))?;
        }
        self.mirrored = wanted;
        Ok(())
    }

    /// Says what connections to servers of hosted services are, by the number that their packets' mark has
    /// (`nightgate_abi::intercept::hosted_mark`). Those that stand stay what they were.
    ///
    /// # Errors
    /// The kernel refuses; some of the change may have been made.
    pub fn set_hosted(&mut self, wanted: BTreeMap<u16, Intercept>) -> Result<(), DatapathError> {
        if wanted == self.hosted {
            return Ok(());
        }
        let name = maps::HOSTED;
        let mut table = map::hash_mut::<u32, Intercept>(&mut self.ebpf, name)?;
        for gone in self.hosted.keys().filter(|number| !wanted.contains_key(number)) {
            map::removed(table.remove(&u32::from(*gone))).map_err(failed("write", name))?;
        }
        for (number, value) in &wanted {
            table.insert(u32::from(*number), value, 0).map_err(failed("write", name))?;
        }
        self.hosted = wanted;
        Ok(())
    }

    /// Copies what passes those of these interfaces that have Ethernet headers, as far as it is of hosted services that are
    /// mirrored. The loopback interface has its own program.
    ///
    /// # Errors
    /// The kernel refuses; others may copy.
    pub fn serve_at(&mut self, interfaces: &[TunnelInterface]) -> Result<(), DatapathError> {
        self.serving.retain(|index| interfaces.iter().any(|it| it.index == *index));
        for interface in interfaces.iter().filter(|it| it.has_ethernet) {
            if self.serving.contains(&interface.index) {
                continue;
            }
            for side in [TcAttachType::Egress, TcAttachType::Ingress] {
                let link = self.attach_to_interface(SERVING, &interface.name, side)?;
                self.held.push(link);
            }
            self.serving.insert(interface.index);
        }
        Ok(())
    }

    /// What became of the copies.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mirror_statistics(&self) -> Result<MirrorStatistics, DatapathError> {
        mirror::statistics(&self.ebpf)
    }

    /// What was sent to a sensor.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mirror_sensor_counter(&self, number: u8) -> Result<Counter, DatapathError> {
        mirror::sensor_counter(&self.ebpf, number)
    }
}
