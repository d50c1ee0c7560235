//! The mirror's device, sessions and encapsulating program.

use std::collections::BTreeMap;

use aya::{
    Ebpf, Pod,
    maps::{MapError, PerCpuArray, PerCpuValues},
};
use nightgate_abi::{
    Bucket, Counter, Hook, maps,
    mirror::{self, MirrorSensor, MirrorSession, MirrorSessionId, Outcome},
};

use crate::{
    datapath::Datapath,
    error::DatapathError,
    interface::IfIndex,
    link::{self, Place},
    map::{self, failed},
    statistics::MirrorStatistics,
};

/// Name of the program that encapsulates copies.
pub(crate) const TC_MIRROR: &str = "tc_mirror";

impl Datapath {
    /// Says which device copies of mirrored packets go to; `None` for none, which is counted for each copy.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_mirror_device(&mut self, device: Option<IfIndex>) -> Result<(), DatapathError> {
        set_device(&mut self.ebpf, device)
    }

    /// Attaches the encapsulating program to both ends of the mirror's pair of interfaces: to the ingress of `peer`,
    /// where frames come that `device` has made of copies, and to the egress of that, for copies which may leave before.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses.
    pub fn attach_mirror(&mut self, device: &str, peer: &str) -> Result<(), DatapathError> {
        for (interface, hook) in [(peer, Hook::Ingress), (device, Hook::Egress)] {
            let index = IfIndex::of(interface)?;
            let place = Place { program: TC_MIRROR, interface, index, hook, role: "mirror" };
            let link = link::attach(&mut self.ebpf, place, self.pins.as_ref())?;
            self.mirror_links.push(link);
        }
        Ok(())
    }

    /// The mirror's sessions and sensors.
    pub fn mirror(&mut self) -> MirrorMaps<'_> {
        MirrorMaps::new(&mut self.ebpf)
    }

    /// What was sent to a sensor.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mirror_sensor_counter(&self, number: u8) -> Result<Counter, DatapathError> {
        sensor_counter(&self.ebpf, number)
    }

    /// What became of the copies.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mirror_statistics(&self) -> Result<MirrorStatistics, DatapathError> {
        statistics(&self.ebpf)
    }
}

/// [`Datapath::set_mirror_device`], in either object.
pub(crate) fn set_device(ebpf: &mut Ebpf, device: Option<IfIndex>) -> Result<(), DatapathError> {
    map::array_mut(ebpf, maps::MIRROR_DEVICE)?
        .set(0, device.map_or(0, IfIndex::get), 0)
        .map_err(failed("write", maps::MIRROR_DEVICE))
}

/// The mirror's sessions and sensors in the kernel, which gateways and tunnelers have alike.
#[derive(Debug)]
pub struct MirrorMaps<'a> {
    ebpf: &'a mut Ebpf,
}

impl<'a> MirrorMaps<'a> {
    pub(crate) fn new(ebpf: &'a mut Ebpf) -> Self {
        Self { ebpf }
    }

    /// Sets or replaces a session.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_session(
        &mut self,
        id: MirrorSessionId,
        session: MirrorSession,
    ) -> Result<(), DatapathError> {
        map::hash_mut(self.ebpf, mirror::SESSIONS_MAP)?
            .insert(u32::from(id.number()), session, 0)
            .map_err(failed("write", mirror::SESSIONS_MAP))
    }

    /// Sets or replaces a sensor; what was counted for it before is forgotten.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_sensor(&mut self, number: u8, sensor: MirrorSensor) -> Result<(), DatapathError> {
        clear_counter(self.ebpf, mirror::SENSOR_COUNTERS_MAP, number.into())?;
        map::hash_mut(self.ebpf, mirror::SENSORS_MAP)?
            .insert(u32::from(number), sensor, 0)
            .map_err(failed("write", mirror::SENSORS_MAP))
    }

    /// Forgets what became of the copies of a session, before another one gets its number.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget_copies(&mut self, id: MirrorSessionId) -> Result<(), DatapathError> {
        for outcome in Outcome::ALL {
            let index = mirror::counter_index(id.number().into(), *outcome);
            clear_counter(self.ebpf, mirror::COUNTERS_MAP, index)?;
        }
        map::array_mut(self.ebpf, mirror::BUCKETS_MAP)?
            .set(id.number().into(), Bucket::default(), 0)
            .map_err(failed("write", mirror::BUCKETS_MAP))?;
        map::array_mut(self.ebpf, mirror::SEQUENCES_MAP)?
            .set(id.number().into(), 0_u64, 0)
            .map_err(failed("write", mirror::SEQUENCES_MAP))
    }

    /// Removes a session; its copies are then counted as without session. One that is not set is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_session(&mut self, id: MirrorSessionId) -> Result<(), DatapathError> {
        remove::<MirrorSession>(self.ebpf, mirror::SESSIONS_MAP, id.number().into())
    }

    /// Removes a sensor; copies for it are then counted as without one. One that is not set is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_sensor(&mut self, number: u8) -> Result<(), DatapathError> {
        remove::<MirrorSensor>(self.ebpf, mirror::SENSORS_MAP, number.into())
    }
}

fn remove<T: Pod>(ebpf: &mut Ebpf, name: &'static str, number: u32) -> Result<(), DatapathError> {
    let removed = map::removed(map::hash_mut::<u32, T>(ebpf, name)?.remove(&number));
    removed.map(drop).map_err(failed("write", name))
}

fn clear_counter(ebpf: &mut Ebpf, name: &'static str, index: u32) -> Result<(), DatapathError> {
    let cpus = usize::try_from(map::cpus()?).unwrap_or_default();
    let mut counters: PerCpuArray<_, Counter> =
        PerCpuArray::try_from(map::map_mut(ebpf, name)?).map_err(failed("open", name))?;
    let zeros = PerCpuValues::try_from(vec![Counter::default(); cpus])
        .map_err(|source| failed("write", name)(MapError::from(source)))?;
    counters.set(index, zeros, 0).map_err(failed("write", name))
}

/// [`Datapath::mirror_sensor_counter`], likewise.
pub(crate) fn sensor_counter(ebpf: &Ebpf, number: u8) -> Result<Counter, DatapathError> {
    let number = u32::from(number);
    let counters = map::counters(ebpf, mirror::SENSOR_COUNTERS_MAP, number..number + 1)?;
    Ok(counters.first().copied().unwrap_or_default())
}

/// [`Datapath::mirror_statistics`], likewise.
pub(crate) fn statistics(ebpf: &Ebpf) -> Result<MirrorStatistics, DatapathError> {
    let counters = map::counters(ebpf, mirror::COUNTERS_MAP, 0..mirror::COUNTERS)?;
    let row = |session: u32| -> BTreeMap<Outcome, Counter> {
        Outcome::ALL
            .iter()
            .map(|outcome| {
                let index = mirror::counter_index(session, *outcome);
                let counter = usize::try_from(index).ok().and_then(|index| counters.get(index));
                (*outcome, counter.copied().unwrap_or_default())
            })
            .collect()
    };
    Ok(MirrorStatistics {
        unknown: row(0),
        sessions: (1..=mirror::NUMBERS)
            .filter_map(MirrorSessionId::new)
            .map(|id| (id, row(u32::from(id.number()))))
            .filter(|(_, row)| row.values().any(|counter| counter.packets != 0))
            .collect(),
    })
}
