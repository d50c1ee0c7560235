//! The programs in the kernel, and the interfaces they are attached to.

use std::collections::{BTreeMap, BTreeSet};

use aya::{Ebpf, programs::SchedClassifier};
use nightgate_abi::{
    Active, Features, Hits, Hook, Intercept, Interface, VERSION, ZoneId, limit::Limits, maps,
};
use nightgate_ruleset::{FlowTables, InterceptImage, RuleId, ZoneName};

use crate::{
    bank::Committed,
    error::DatapathError,
    fallback::TC_FALLBACK,
    guard::{self, Attachment},
    interface::IfIndex,
    kept,
    link::{self, Link, Place},
    map::{self, failed},
    mirror::TC_MIRROR,
    note, object,
    pins::Pins,
};

/// The kernel programs and their maps. Dropping it detaches them, unless they are pinned.
#[derive(Debug)]
pub struct Datapath {
    pub(crate) ebpf: Ebpf,
    /// Where links and maps outlive this process, if they do.
    pub(crate) pins: Option<Pins>,
    /// Links of the mirror's encapsulating program.
    pub(crate) mirror_links: Vec<Link>,
    /// Link of the program that is asked for sockets.
    pub(crate) lookup_link: Option<Link>,
    /// The word in force.
    pub(crate) active: Active,
    /// Features that are used whatever the rules say.
    pub(crate) always: Features,
    /// What the bank in force was made of; `None` before the first commit.
    pub(crate) committed: Option<Committed>,
    /// What banks before it were made of, the latest last.
    pub(crate) former: Vec<Committed>,
    /// Hits of rules in banks that are no longer in force.
    pub(crate) past_rules: BTreeMap<RuleId, Hits>,
    /// Limits of the rules in force, by their index.
    pub(crate) limits: BTreeMap<u32, Limits>,
    /// Zones that ask for a guard.
    pub(crate) guarded: BTreeSet<ZoneName>,
    pub(crate) attached: BTreeMap<IfIndex, Attached>,
    /// What is intercepted; `None` if only an earlier process knows.
    pub(crate) intercepts: Option<InterceptImage>,
    /// What connections to servers of hosted services are; likewise.
    pub(crate) hosted: Option<BTreeMap<u16, Intercept>>,
}

/// An attached interface.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) name: String,
    pub(crate) zone: ZoneName,
    pub(crate) presence: Presence,
    links: [Link; 2],
    pub(crate) guard: Option<Attachment>,
}

/// Whether an attached interface is in a zone from the next commit on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Presence {
    /// It is.
    Stays,
    /// It is in none, and is detached when that lasts.
    Leaves,
}

impl Datapath {
    /// Loads the programs that were built into this one. They see no packets yet.
    ///
    /// # Errors
    /// The object was not built in, is of another ABI version, or the kernel refuses it.
    pub fn load() -> Result<Self, DatapathError> {
        Self::with_programs(object::load(None, FlowTables::default())?, None)
    }

    /// Loads the programs that were built into this one, with maps and links that outlive this process. Maps
    /// that an earlier process of the same ABI version has left are taken over with all they hold: rules,
    /// flows, counters, and with their size: `tables` counts where there are none. Programs that it has left on
    /// interfaces work on until [`Datapath::attach`] replaces them; those of the same object are used again.
    ///
    /// # Errors
    /// As for [`Datapath::load`], or there can be no BPF file system.
    pub fn open(pins: Pins, tables: FlowTables) -> Result<Self, DatapathError> {
        pins.prepare(VERSION)?;
        if pins.has_other_maps(VERSION) {
            tracing::info!(
                version = VERSION,
                "tables of another ABI version are there: loading beside them, flows begin anew"
            );
        }
        let mut datapath = Self::with_programs(object::load(Some(&pins), tables)?, Some(pins))?;
        datapath.take_over()?;
        Ok(datapath)
    }

    /// Whether rules that an earlier process committed are in force.
    pub fn is_in_force(&self) -> bool {
        self.active != Active::NONE
    }

    fn with_programs(mut ebpf: Ebpf, pins: Option<Pins>) -> Result<Self, DatapathError> {
        for program in [program(Hook::Ingress), program(Hook::Egress), TC_MIRROR, TC_FALLBACK] {
            kept::load(&mut ebpf, program, pins.as_ref())?;
        }
        Ok(Self {
            ebpf,
            pins,
            mirror_links: Vec::new(),
            lookup_link: None,
            active: Active::NONE,
            always: Features::NONE,
            committed: None,
            former: Vec::new(),
            past_rules: BTreeMap::new(),
            limits: BTreeMap::new(),
            guarded: BTreeSet::new(),
            attached: BTreeMap::new(),
            intercepts: None,
            hosted: None,
        })
    }

    /// Reads what an earlier process has left in the maps.
    fn take_over(&mut self) -> Result<(), DatapathError> {
        let active: Active = map::array_mut(&mut self.ebpf, maps::ACTIVE)?
            .get(&0, 0)
            .map_err(failed("read", maps::ACTIVE))?;
        if self.pins.is_none() || active == Active::NONE {
            return Ok(());
        }
        self.active = self.fall_back(active)?;
        self.read_note();
        self.take_over_quarantine()?;
        self.take_over_throttles()?;
        self.stop_trace()?;
        tracing::info!(epoch = self.active.epoch(), "took over the rules in force");
        Ok(())
    }

    /// Reads what the bank in force was made of.
    pub(crate) fn read_note(&mut self) {
        let Some(pins) = &self.pins else { return };
        match note::read(&pins.note(VERSION, self.active.bank())) {
            Ok((committed, past)) => {
                let since = self.active.epoch();
                self.replace_committed(Committed { since, ..committed });
                self.past_rules = past;
            }
            Err(error) => tracing::warn!(%error, "counters of rules begin anew"),
        }
    }

    /// Attaches the firewall to both sides of an interface. From then on the interface carries what the
    /// committed rules accept; nothing, if none are or if they do not know the zone. Programs that an earlier
    /// process has left there are replaced in place.
    ///
    /// # Errors
    /// There is no such interface, it is attached already, or the kernel refuses.
    pub fn attach(&mut self, interface: &str, zone: &ZoneName) -> Result<IfIndex, DatapathError> {
        let index = IfIndex::of(interface)?;
        if self.attached.contains_key(&index) {
            return Err(DatapathError::Attached { interface: interface.to_owned() });
        }
        let known = self.interface(index)?;
        if known.is_none() {
            let mut zones = [ZoneId::NONE; 2];
            if let Some(committed) = &self.committed {
                zones[bank_index(self.active.bank())] = committed.zone(zone);
            }
            self.write_interface(index, zones)?;
        }
        let links = match self.attach_both(interface, index) {
            Ok(links) => links,
            Err(error) => {
                if known.is_none() {
                    self.forget_interface(index)?;
                }
                return Err(error);
            }
        };
        tracing::info!(interface, %zone, "attached firewall");
        let (name, zone, presence) = (interface.to_owned(), zone.clone(), Presence::Stays);
        self.attached.insert(index, Attached { name, zone, presence, links, guard: None });
        self.open_vlan(interface, index)?;
        self.place_guards()?;
        Ok(index)
    }

    /// Detaches the firewall from an interface, which then carries everything. An interface that is gone or
    /// was never attached is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&mut self, index: IfIndex) -> Result<(), DatapathError> {
        let Some(attached) = self.attached.remove(&index) else {
            return Ok(());
        };
        self.close_vlan(index)?;
        attached.links.into_iter().try_for_each(Link::detach)?;
        attached.guard.map_or(Ok(()), Attachment::detach)?;
        self.forget_interface(index)
    }

    /// Detaches the programs that an earlier process has left on interfaces that are not attached now, and
    /// drops its maps if they are of another ABI version.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn drop_leftovers(&mut self) -> Result<(), DatapathError> {
        let Some(pins) = self.pins.clone() else {
            return Ok(());
        };
        let lookup = pins.lookup();
        let wanted = |path: &std::path::Path| {
            let of = |index: &IfIndex, role| pins.link(*index, role) == path;
            let roles = [Hook::Ingress, Hook::Egress].map(Hook::as_str);
            path == lookup
                || self.attached.iter().any(|(index, attached)| {
                    roles.iter().any(|role| of(index, role))
                        || (attached.guard.is_some() && of(index, guard::ROLE))
                })
        };
        for path in pins.remove_links(wanted)? {
            tracing::info!(pin = %path.display(), "detached from an interface that is in no zone any more");
        }
        let interfaces = map::hash::<u32, Interface>(&self.ebpf, maps::INTERFACES)?;
        let known = interfaces.keys().collect::<Result<Vec<_>, _>>();
        let known = known.map_err(failed("read", maps::INTERFACES))?;
        for index in known.into_iter().filter_map(IfIndex::new) {
            if !self.attached.contains_key(&index) {
                self.close_vlan(index)?;
                self.forget_interface(index)?;
            }
        }
        Ok(pins.remove_other_maps(VERSION)?)
    }

    /// Epoch of the rules in force; 0 if there are none.
    pub fn epoch(&self) -> u32 {
        self.active.epoch()
    }

    /// Attached interfaces and their zones.
    pub fn interfaces(&self) -> impl Iterator<Item = (IfIndex, &str, &ZoneName)> {
        self.attached.iter().map(|(index, a)| (*index, a.name.as_str(), &a.zone))
    }

    /// Writes an interface's zones; the rest of what is known of it stays.
    pub(crate) fn write_interface(
        &mut self,
        index: IfIndex,
        zones: [ZoneId; 2],
    ) -> Result<(), DatapathError> {
        let known = self.interface(index)?.unwrap_or_default();
        self.put_interface(index, Interface { zones, ..known })
    }

    pub(crate) fn put_interface(
        &mut self,
        index: IfIndex,
        interface: Interface,
    ) -> Result<(), DatapathError> {
        map::hash_mut(&mut self.ebpf, maps::INTERFACES)?
            .insert(index.get(), interface, 0)
            .map_err(failed("write", maps::INTERFACES))
    }

    /// What is known of an interface in the map.
    pub(crate) fn interface(&self, index: IfIndex) -> Result<Option<Interface>, DatapathError> {
        let interfaces = map::hash::<u32, Interface>(&self.ebpf, maps::INTERFACES)?;
        match interfaces.get(&index.get(), 0) {
            Ok(interface) => Ok(Some(interface)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(failed("read", maps::INTERFACES)(source)),
        }
    }

    fn forget_interface(&mut self, index: IfIndex) -> Result<(), DatapathError> {
        self.forget_drops(index)?;
        map::hash_mut::<u32, Interface>(&mut self.ebpf, maps::INTERFACES)?
            .remove(&index.get())
            .map_err(failed("write", maps::INTERFACES))
    }

    /// A link that is not needed after all is dropped with the error: it detaches, unless it is pinned and
    /// was there before.
    fn attach_both(&mut self, interface: &str, index: IfIndex) -> Result<[Link; 2], DatapathError> {
        let mut attach = |hook: Hook| {
            let (program, role) = (program(hook), hook.as_str());
            let place = Place { program, interface, index, hook, role };
            link::attach(&mut self.ebpf, place, self.pins.as_ref())
        };
        Ok([attach(Hook::Ingress)?, attach(Hook::Egress)?])
    }
}

/// Name of the firewall's program for a side of an interface.
pub(crate) fn program(hook: Hook) -> &'static str {
    match hook {
        Hook::Ingress => "tc_ingress",
        Hook::Egress => "tc_egress",
    }
}

pub(crate) fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, DatapathError> {
    let program = ebpf.program_mut(name).ok_or(DatapathError::Missing { object: name })?;
    program.try_into().map_err(|source| DatapathError::Program {
        operation: "open",
        program: name,
        source: Box::new(source),
    })
}

/// Index of a bank in [`Interface::zones`].
pub(crate) fn bank_index(bank: u32) -> usize {
    usize::from(bank != 0)
}
