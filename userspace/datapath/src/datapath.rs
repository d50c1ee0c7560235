//! The programs in the kernel, and the interfaces they are attached to.

use std::collections::BTreeMap;

use aya::{
    Ebpf,
    programs::{SchedClassifier, TcAttachType, tc::SchedClassifierLinkId},
};
use nightgate_abi::{Active, Counter, Interface, ZoneId, maps};
use nightgate_ruleset::{RuleId, ZoneName};

use crate::{
    bank::Committed,
    error::DatapathError,
    intercept::Intercepts,
    interface::IfIndex,
    map::{self, failed},
    mirror::TC_MIRROR,
    object,
};

/// A side of an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {
    /// What comes in.
    Ingress,
    /// What leaves.
    Egress,
}

/// The kernel programs and their maps. Dropping it detaches them.
#[derive(Debug)]
pub struct Datapath {
    pub(crate) ebpf: Ebpf,
    /// The word in force.
    pub(crate) active: Active,
    /// What the bank in force was made of; `None` before the first commit.
    pub(crate) committed: Option<Committed>,
    /// Counts of rules in banks that are no longer in force.
    pub(crate) past_rules: BTreeMap<RuleId, Counter>,
    pub(crate) attached: BTreeMap<IfIndex, Attached>,
    pub(crate) intercepts: Intercepts,
}

/// An attached interface.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) name: String,
    pub(crate) zone: ZoneName,
    links: [(Hook, SchedClassifierLinkId); 2],
}

impl Datapath {
    /// Loads the programs that were built into this one. They see no packets yet.
    ///
    /// # Errors
    /// The object was not built in, is of another ABI version, or the kernel refuses it.
    pub fn load() -> Result<Self, DatapathError> {
        let mut ebpf = object::load()?;
        for program in [Hook::Ingress.program(), Hook::Egress.program(), TC_MIRROR] {
            classifier(&mut ebpf, program)?.load().map_err(|source| DatapathError::Program {
                operation: "load",
                program,
                source: source.into(),
            })?;
        }
        Ok(Self {
            ebpf,
            active: Active::NONE,
            committed: None,
            past_rules: BTreeMap::new(),
            attached: BTreeMap::new(),
            intercepts: Intercepts::default(),
        })
    }

    /// Attaches the firewall to both sides of an interface. From then on the interface carries what the
    /// committed rules accept; nothing, if none are or if they do not know the zone.
    ///
    /// # Errors
    /// There is no such interface, it is attached already, or the kernel refuses.
    pub fn attach(&mut self, interface: &str, zone: &ZoneName) -> Result<IfIndex, DatapathError> {
        let index = IfIndex::of(interface)?;
        if self.attached.contains_key(&index) {
            return Err(DatapathError::Attached { interface: interface.to_owned() });
        }
        let mut zones = [ZoneId::NONE; 2];
        if let Some(committed) = &self.committed {
            zones[bank_index(self.active.bank())] = committed.zone(zone);
        }
        self.write_interface(index, zones)?;
        let links = match self.attach_both(interface) {
            Ok(links) => links,
            Err(error) => {
                self.forget_interface(index)?;
                return Err(error);
            }
        };
        let attached = Attached { name: interface.to_owned(), zone: zone.clone(), links };
        self.attached.insert(index, attached);
        tracing::info!(interface, %zone, "attached firewall");
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
        for (hook, link) in attached.links {
            let program = hook.program();
            classifier(&mut self.ebpf, program)?.detach(link).map_err(|source| {
                DatapathError::Program { operation: "detach", program, source: source.into() }
            })?;
        }
        self.forget_interface(index)
    }

    /// Attached interfaces and their zones.
    pub fn interfaces(&self) -> impl Iterator<Item = (IfIndex, &str, &ZoneName)> {
        self.attached.iter().map(|(index, a)| (*index, a.name.as_str(), &a.zone))
    }

    pub(crate) fn write_interface(
        &mut self,
        index: IfIndex,
        zones: [ZoneId; 2],
    ) -> Result<(), DatapathError> {
        map::hash_mut(&mut self.ebpf, maps::INTERFACES)?
            .insert(index.get(), Interface { zones, pad: [0; 2] }, 0)
            .map_err(failed("write", maps::INTERFACES))
    }

    fn forget_interface(&mut self, index: IfIndex) -> Result<(), DatapathError> {
        map::hash_mut::<u32, Interface>(&mut self.ebpf, maps::INTERFACES)?
            .remove(&index.get())
            .map_err(failed("write", maps::INTERFACES))
    }

    fn attach_both(
        &mut self,
        interface: &str,
    ) -> Result<[(Hook, SchedClassifierLinkId); 2], DatapathError> {
        let ingress =
            attach_program(&mut self.ebpf, Hook::Ingress.program(), interface, Hook::Ingress)?;
        match attach_program(&mut self.ebpf, Hook::Egress.program(), interface, Hook::Egress) {
            Ok(egress) => Ok([(Hook::Ingress, ingress), (Hook::Egress, egress)]),
            Err(error) => {
                let program = Hook::Ingress.program();
                classifier(&mut self.ebpf, program)?.detach(ingress).map_err(|source| {
                    DatapathError::Program { operation: "detach", program, source: source.into() }
                })?;
                Err(error)
            }
        }
    }
}

impl Hook {
    /// Name of the firewall's program for this side.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Ingress => "tc_ingress",
            Self::Egress => "tc_egress",
        }
    }
}

/// Attaches a program to a side of an interface, behind the programs that are there.
pub(crate) fn attach_program(
    ebpf: &mut Ebpf,
    program: &'static str,
    interface: &str,
    hook: Hook,
) -> Result<SchedClassifierLinkId, DatapathError> {
    let attach_type = match hook {
        Hook::Ingress => TcAttachType::Ingress,
        Hook::Egress => TcAttachType::Egress,
    };
    classifier(ebpf, program)?.attach(interface, attach_type).map_err(|source| {
        DatapathError::Program { operation: "attach", program, source: source.into() }
    })
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
