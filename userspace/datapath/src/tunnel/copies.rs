//! Copies of what programs say to services and hear from them, for sensors.

use nightgate_abi::{
    Counter,
    mirror::{MirrorSensor, MirrorSession, MirrorSessionId},
};

use super::*;
use crate::{mirror, statistics::MirrorStatistics};

/// The program where copies become frames for sensors.
const MIRROR: &str = "tunnel_mirror";

impl Tunnel {
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

    /// Sets or replaces a mirror session.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_mirror_session(
        &mut self,
        id: MirrorSessionId,
        session: MirrorSession,
    ) -> Result<(), DatapathError> {
        mirror::set_session(&mut self.ebpf, id, session)
    }

    /// Sets or replaces a sensor of mirror sessions.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_mirror_sensor(
        &mut self,
        number: u8,
        sensor: MirrorSensor,
    ) -> Result<(), DatapathError> {
        mirror::set_sensor(&mut self.ebpf, number, sensor)
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
