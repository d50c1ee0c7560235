//! Staging, verifying and committing rule sets.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{Array, ArrayOfMaps, MapData, PerCpuArray, PerCpuValues};
use nightgate_abi::{Active, Counter, Interface, Slot, VERSION, ZoneId, limits, maps};
use nightgate_ruleset::{MapImage, RuleId, ZoneName};

use crate::{
    datapath::{Datapath, bank_index},
    error::DatapathError,
    map::{self, failed},
    note,
};

/// What the bank in force was made of.
#[derive(Debug)]
pub(crate) struct Committed {
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
        let next = self.next(self.active.inactive_bank())?;
        self.stage_zones(image, next.bank())?;
        self.stage_rules(image.slots(), next.bank())?;
        self.clear_rule_counters(next.bank(), image.rules().len())?;
        self.verify(image, next.bank())?;
        let staged = Committed { zones: image.zones().clone(), rules: image.rules().to_vec() };
        self.write_note(&staged, next.bank())?;
        self.write_active(next)?;
        self.keep_rule_counters(next.inactive_bank(), image)?;
        self.write_note(&staged, next.bank())?;
        self.committed = Some(staged);
        tracing::info!(epoch = next.epoch(), rules = image.rules().len(), "committed rules");
        Ok(())
    }

    /// Makes every flow be judged again on its next packet, by the rules in force.
    pub(crate) fn judge_flows_again(&mut self) -> Result<(), DatapathError> {
        if self.committed.is_none() {
            return Ok(());
        }
        let next = self.next(self.active.bank())?;
        self.write_active(next)
    }

    /// The word for a bank in the next epoch.
    fn next(&self, bank: u32) -> Result<Active, DatapathError> {
        /// Largest epoch of an [`Active`] word.
        const EPOCH_MAX: u32 = (1 << 31) - 1;
        if self.active.epoch() == EPOCH_MAX {
            return Err(DatapathError::Epochs);
        }
        Ok(Active::new(bank, self.active.epoch() + 1))
    }

    fn write_active(&mut self, active: Active) -> Result<(), DatapathError> {
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
            let staged = image.zones().get(&attached.zone).copied().ok_or_else(|| {
                let (interface, zone) = (attached.name.clone(), attached.zone.clone());
                DatapathError::UnknownZone { interface, zone }
            })?;
            let mut zones = self.interface_zones(*index)?.unwrap_or([ZoneId::NONE; 2]);
            zones[bank_index(bank)] = staged;
            values.push((*index, zones));
        }
        values.into_iter().try_for_each(|(index, zones)| self.write_interface(index, zones))
    }

    /// Replaces the inner map of a bank by a new one. The kernel waits until no program reads the old one.
    fn stage_rules(&mut self, slots: &[Slot], bank: u32) -> Result<(), DatapathError> {
        /// `BPF_F_INNER_MAP` (linux/bpf.h): the banks differ in size.
        const OF_ANY_SIZE: u32 = 1 << 12;
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
            if image.zones().get(&attached.zone) != Some(&staged.zones[bank_index(bank)]) {
                return Err(DatapathError::Verify { map: maps::INTERFACES });
            }
        }
        Ok(())
    }

    fn clear_rule_counters(&mut self, bank: u32, rules: usize) -> Result<(), DatapathError> {
        let name = maps::RULE_COUNTERS;
        let cpus = aya::util::nr_cpus()
            .map_err(|(_, source)| failed("size", name)(aya::maps::MapError::IoError(source)))?;
        let mut counters: PerCpuArray<_, Counter> =
            PerCpuArray::try_from(map::map_mut(&mut self.ebpf, name)?)
                .map_err(failed("open", name))?;
        for rule in (0..limits::RULES).take(rules) {
            let zero = PerCpuValues::try_from(vec![Counter::default(); cpus])
                .map_err(|source| failed("write", name)(aya::maps::MapError::IoError(source)))?;
            counters.set(maps::rule_counter(bank, rule), zero, 0).map_err(failed("write", name))?;
        }
        Ok(())
    }

    /// Adds the counts of a bank that went out of force to those kept by rule id.
    fn keep_rule_counters(&mut self, bank: u32, image: &MapImage) -> Result<(), DatapathError> {
        let last = self.bank_rule_counters(bank)?;
        for (rule, counter) in last {
            *self.past_rules.entry(rule).or_default() += counter;
        }
        let kept: BTreeSet<&RuleId> = image.rules().iter().collect();
        self.past_rules.retain(|rule, _| kept.contains(rule));
        Ok(())
    }

    /// Counts of the rules of a bank that [`Datapath::committed`] describes.
    pub(crate) fn bank_rule_counters(
        &self,
        bank: u32,
    ) -> Result<Vec<(RuleId, Counter)>, DatapathError> {
        let Some(committed) = &self.committed else {
            return Ok(Vec::new());
        };
        let first = maps::rule_counter(bank, 0);
        let indices = (first..).take(committed.rules.len());
        let counters = map::counters(&self.ebpf, maps::RULE_COUNTERS, indices)?;
        Ok(committed.rules.iter().cloned().zip(counters).collect())
    }
}
