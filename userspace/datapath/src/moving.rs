//! Interfaces that move from zone to zone.

use nightgate_abi::ZoneId;
use nightgate_ruleset::{MapImage, ZoneName};

use crate::{
    datapath::{Attached, Datapath, Presence},
    error::DatapathError,
    interface::IfIndex,
};

impl Datapath {
    /// Says in which zone each attached interface is from the next commit on, by its name. One that is in
    /// none carries nothing from then on, until it is detached.
    pub fn assign_zones(&mut self, zone_of: impl Fn(&str) -> Option<ZoneName>) {
        for attached in self.attached.values_mut() {
            attached.presence = match zone_of(&attached.name) {
                Some(zone) => {
                    attached.zone = zone;
                    Presence::Stays
                }
                None => Presence::Leaves,
            };
        }
    }

    /// Detaches the interfaces that are in no zone any more; they carry everything then.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach_leaving(&mut self) -> Result<(), DatapathError> {
        let leaves = |(index, attached): (&IfIndex, &Attached)| {
            (attached.presence == Presence::Leaves).then_some(*index)
        };
        let leaving: Vec<IfIndex> = self.attached.iter().filter_map(leaves).collect();
        for index in leaving {
            self.detach(index)?;
            tracing::info!(%index, "detached from an interface that is in no zone any more");
        }
        Ok(())
    }
}

impl Attached {
    /// The number of the interface's zone in a rule set: none if it leaves, `None` if the rule set does not know
    /// the zone.
    pub(crate) fn zone_in(&self, image: &MapImage) -> Option<ZoneId> {
        match self.presence {
            Presence::Stays => image.zones().get(&self.zone).copied(),
            Presence::Leaves => Some(ZoneId::NONE),
        }
    }
}
