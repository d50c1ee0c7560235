//! Staging, verifying and committing rule sets.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{Array, ArrayOfMaps, MapData};
use nightgate_abi::{Active, Hits, Interface, Settings, Slot, VERSION, ZoneId, maps};
use nightgate_ruleset::{MapImage, RuleId, ZoneName};

use crate::{
    datapath::{Datapath, bank_index},
    error::DatapathError,
    map::{self, failed},
    note,
};

/// Banks that went out of force whose names are still known.
const FORMER: usize = 2;

/// `BPF_F_INNER_MAP` (linux/bpf.h): the banks differ in size.
pub(crate) const OF_ANY_SIZE: u32 = 1 << 12;

/// What the bank in force was made of.
#[derive(Debug)]
pub(crate) struct Committed {
    /// Epoch from which on it was in force.
    pub(crate) since: u32,
    pub(crate) zones: BTreeMap<ZoneName, ZoneId>,
    pub(crate) rules: Vec<RuleId>,
}

impl Committed {
    /// The number of a zone; none for one that the rule set does not know.
    pub(crate) fn zone(&self, name: &ZoneName) -> ZoneId {
        self.zones.get(name).copied().unwrap_or(ZoneId::NONE)
    }

    /// Name of a zone by its number.
    pub(crate) fn zone_name(&self, zone: ZoneId) -> Option<&ZoneName> {
        self.zones.iter().find(|(_, candidate)| **candidate == zone).map(|(name, _)| name)
    }

    /// Name of a rule by its index.
    pub(crate) fn rule(&self, index: u32) -> Option<&RuleId> {
        self.rules.get(index as usize)
    }
}

impl Datapath {
    /// Puts a rule set in force: fills the bank that is not, reads it back, and writes one word. Every packet
    /// is judged by the old rules or by the new, none by a mixture; flows are judged again on their next
    /// packet. Rules that keep their id keep their counts.
    ///
    /// # Errors
    /// An attached interface's zone is not in the rule set, or the kernel refuses; the old rules stay in force.
    pub fn commit(&mut self, image: &MapImage) -> Result<(), DatapathError> {
        let next = self.stage(image)?;
        self.keep()?;
        self.put_in_force(image, next)
    }

    /// Fills the bank that is not in force, and reads it back. Returns the word that puts it in force.
    pub(crate) fn stage(&mut self, image: &MapImage) -> Result<Active, DatapathError> {
        self.refresh()?;
        let (bank, epoch) = (self.active.inactive_bank(), self.next_epoch()?);
        let next = Active::new(bank, epoch, image.features().with(self.always))
            .with_counters_shift(maps::counters_shift(count(image.rules())));
        // First, since it waits for the packets that have begun before the last commit: they still use this bank.
        self.stage_counters(next)?;
        self.stage_zones(image, next.bank())?;
        self.stage_rules(image.slots(), next.bank())?;
        self.stage_settings(image.settings(), next.bank())?;
        self.stage_guards(image, next.bank())?;
        self.stage_ether_types(image, next.bank())?;
        self.verify(image, next.bank())?;
        Ok(next)
    }

    /// Writes the word, and the notes around it.
    pub(crate) fn put_in_force(
        &mut self,
        image: &MapImage,
        next: Active,
    ) -> Result<(), DatapathError> {
        let (zones, rules) = (image.zones().clone(), image.rules().to_vec());
        let staged = Committed { since: next.epoch(), zones, rules };
        self.write_note(&staged, next.bank())?;
        let last = self.active;
        self.write_active(next)?;
        self.keep_hits(last, image)?;
        self.write_note(&staged, next.bank())?;
        self.replace_committed(staged);
        self.limits = image.limits().clone();
        let guarded = image.guards().iter().map(|guard| guard.zone);
        let zones = image.zones();
        self.guarded = guarded
            .flat_map(|zone| zones.iter().filter(move |(_, number)| **number == zone))
            .map(|(name, _)| name.clone())
            .collect();
        self.place_guards()?;
        tracing::info!(epoch = next.epoch(), rules = image.rules().len(), "committed rules");
        Ok(())
    }

    /// Takes over what a bank that comes in force was made of.
    pub(crate) fn replace_committed(&mut self, committed: Committed) {
        self.former.extend(self.committed.replace(committed));
        let more = self.former.len().saturating_sub(FORMER);
        self.former.drain(..more);
    }

    /// What the bank in force in an epoch was made of, if that is known.
    pub(crate) fn committed_in(&self, epoch: u32) -> Option<&Committed> {
        let known = self.committed.iter().chain(self.former.iter().rev());
        known.into_iter().find(|committed| committed.since <= epoch)
    }

    /// Makes every flow be judged again on its next packet, by the rules in force.
    pub(crate) fn judge_flows_again(&mut self) -> Result<(), DatapathError> {
        if self.committed.is_none() {
            return Ok(());
        }
        let next = self.active.in_epoch(self.next_epoch()?);
        self.write_active(next)
    }

    fn next_epoch(&self) -> Result<u32, DatapathError> {
        /// Largest epoch of an [`Active`] word.
        const EPOCH_MAX: u32 = (1 << 31) - 1;
        let epoch = self.active.epoch();
        if epoch == EPOCH_MAX { Err(DatapathError::Epochs) } else { Ok(epoch + 1) }
    }

    /// Takes note of the kernel's having gone back to the rules before.
    pub(crate) fn refresh(&mut self) -> Result<(), DatapathError> {
        let active: Active = map::array_mut(&mut self.ebpf, maps::ACTIVE)?
            .get(&0, 0)
            .map_err(failed("read", maps::ACTIVE))?;
        if active != self.active {
            self.active = active;
            self.read_note();
            let wanted = self.with_always(active);
            if wanted != active {
                self.write_active(wanted)?;
            }
        }
        Ok(())
    }

    pub(crate) fn write_active(&mut self, active: Active) -> Result<(), DatapathError> {
        map::array_mut(&mut self.ebpf, maps::ACTIVE)?
            .set(0, active, 0)
            .map_err(failed("write", maps::ACTIVE))?;
        self.active = active;
        Ok(())
    }

    fn write_note(&self, committed: &Committed, bank: u32) -> Result<(), DatapathError> {
        match &self.pins {
            Some(pins) => Ok(note::write(&pins.note(VERSION, bank), committed, &self.past_rules)?),
            None => Ok(()),
        }
    }

    fn stage_zones(&mut self, image: &MapImage, bank: u32) -> Result<(), DatapathError> {
        let mut values = Vec::new();
        for (index, attached) in &self.attached {
            let staged = attached.zone_in(image).ok_or_else(|| {
                let (interface, zone) = (attached.name.clone(), attached.zone.clone());
                DatapathError::UnknownZone { interface, zone }
            })?;
            let mut zones = self.interface(*index)?.unwrap_or_default().zones;
            zones[bank_index(bank)] = staged;
            values.push((*index, zones));
        }
        values.into_iter().try_for_each(|(index, zones)| self.write_interface(index, zones))
    }

    /// Replaces the inner map of a bank by a new one. The kernel waits until no program reads the old one.
    fn stage_rules(&mut self, slots: &[Slot], bank: u32) -> Result<(), DatapathError> {
        let size = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        let mut inner = Array::<MapData, Slot>::create(size, OF_ANY_SIZE)
            .map_err(failed("create", maps::BANKS))?;
        for (index, slot) in (0..).zip(slots) {
            inner.set(index, slot, 0).map_err(failed("write", maps::BANKS))?;
        }
        let mut banks: ArrayOfMaps<_, Array<MapData, Slot>> =
            ArrayOfMaps::try_from(map::map_mut(&mut self.ebpf, maps::BANKS)?)
                .map_err(failed("open", maps::BANKS))?;
        banks.set(bank, &inner, 0).map_err(failed("write", maps::BANKS))
    }

    fn stage_settings(&mut self, settings: Settings, bank: u32) -> Result<(), DatapathError> {
        map::array_mut(&mut self.ebpf, maps::SETTINGS)?
            .set(bank, settings, 0)
            .map_err(failed("write", maps::SETTINGS))
    }

    fn verify(&self, image: &MapImage, bank: u32) -> Result<(), DatapathError> {
        let banks: ArrayOfMaps<_, Array<MapData, Slot>> =
            ArrayOfMaps::try_from(map::map(&self.ebpf, maps::BANKS)?)
                .map_err(failed("open", maps::BANKS))?;
        let inner = banks.get(&bank, 0).map_err(failed("read", maps::BANKS))?;
        for (index, slot) in (0..).zip(image.slots()) {
            if inner.get(&index, 0).map_err(failed("read", maps::BANKS))? != *slot {
                return Err(DatapathError::Verify { map: maps::BANKS });
            }
        }
        let interfaces = map::hash::<u32, Interface>(&self.ebpf, maps::INTERFACES)?;
        for (index, attached) in &self.attached {
            let staged =
                interfaces.get(&index.get(), 0).map_err(failed("read", maps::INTERFACES))?;
            if attached.zone_in(image) != Some(staged.zones[bank_index(bank)]) {
                return Err(DatapathError::Verify { map: maps::INTERFACES });
            }
        }
        Ok(())
    }

    /// Replaces the counters of a bank's rules by new ones. The kernel waits until every program that runs has ended.
    fn stage_counters(&mut self, staged: Active) -> Result<(), DatapathError> {
        let size = maps::rule_counter(staged.counters_shift(), map::cpus()?, 0);
        let inner = Array::<MapData, Hits>::create(size, OF_ANY_SIZE)
            .map_err(failed("create", maps::RULE_COUNTERS))?;
        let mut banks: ArrayOfMaps<_, Array<MapData, Hits>> =
            ArrayOfMaps::try_from(map::map_mut(&mut self.ebpf, maps::RULE_COUNTERS)?)
                .map_err(failed("open", maps::RULE_COUNTERS))?;
        banks.set(staged.bank(), &inner, 0).map_err(failed("write", maps::RULE_COUNTERS))
    }

    /// Adds the hits of a bank that went out of force to those kept by rule id.
    fn keep_hits(&mut self, last: Active, image: &MapImage) -> Result<(), DatapathError> {
        for (rule, hits) in self.bank_hits(last)? {
            *self.past_rules.entry(rule).or_default() += hits;
        }
        let kept: BTreeSet<&RuleId> = image.rules().iter().collect();
        self.past_rules.retain(|rule, _| kept.contains(rule));
        Ok(())
    }

    /// Hits of the rules of a bank that was or is in force, and that [`Datapath::committed`] describes.
    pub(crate) fn bank_hits(&self, active: Active) -> Result<Vec<(RuleId, Hits)>, DatapathError> {
        let Some(committed) = &self.committed else {
            return Ok(Vec::new());
        };
        let banks: ArrayOfMaps<_, Array<MapData, Hits>> =
            ArrayOfMaps::try_from(map::map(&self.ebpf, maps::RULE_COUNTERS)?)
                .map_err(failed("open", maps::RULE_COUNTERS))?;
        let inner = banks.get(&active.bank(), 0).map_err(failed("read", maps::RULE_COUNTERS))?;
        let cpus = map::cpus()?;
        let hits = |rule| -> Result<Hits, DatapathError> {
            (0..cpus).try_fold(Hits::default(), |mut sum, cpu| {
                let index = maps::rule_counter(active.counters_shift(), cpu, rule);
                sum += inner.get(&index, 0).map_err(failed("read", maps::RULE_COUNTERS))?;
                Ok(sum)
            })
        };
        (0..).zip(&committed.rules).map(|(index, rule)| Ok((rule.clone(), hits(index)?))).collect()
    }
}

/// How many rules there are.
fn count(rules: &[RuleId]) -> u32 {
    u32::try_from(rules.len()).unwrap_or(u32::MAX)
}
