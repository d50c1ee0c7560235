//! The intercepted destinations and their services.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::SocketAddr,
    num::NonZeroU32,
};

use nightgate_model::{configs::EndToEndV1, entity::Service, id::ServiceId};

use crate::dns::NameTable;

/// The number by which the kernel knows a service. Not given to another service while the process
/// runs, so that a flow's tag never names the wrong one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ServiceTag(NonZeroU32);

/// A service that is intercepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InterceptedService {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// Its number in the kernel's tables.
    pub tag: ServiceTag,
    /// Whether both ends must encrypt.
    pub encryption: Encryption,
}

/// Whether a service's circuits are encrypted end to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encryption {
    /// Both ends must encrypt.
    Required,
    /// Both ends must encrypt by our own method, and prove who they are.
    Native,
    /// The circuit carries plaintext inside the links' TLS.
    Off,
}

/// Everything that is intercepted at one time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InterceptTable {
    /// Destinations of TCP connections.
    entries: BTreeMap<SocketAddr, ServiceId>,
    services: BTreeMap<ServiceId, InterceptedService>,
    names: NameTable,
}

impl Encryption {
    /// What the controller says about a service.
    pub fn of(service: &Service) -> Self {
        if EndToEndV1::demands_native(&service.config) {
            Self::Native
        } else if service.encryption_required {
            Self::Required
        } else {
            Self::Off
        }
    }
}

impl InterceptTable {
    /// The service whose destination a connection was made to.
    pub fn service_at(&self, destination: SocketAddr) -> Option<&InterceptedService> {
        // The scope of a link-local address does not tell services apart.
        let destination = SocketAddr::new(destination.ip(), destination.port());
        self.entries.get(&destination).and_then(|id| self.services.get(id))
    }

    /// The service with this tag.
    pub fn service_tagged(&self, tag: u32) -> Option<&InterceptedService> {
        self.services.values().find(|service| service.tag.number() == tag)
    }

    /// Every destination with its service, in the order of the addresses.
    pub fn entries(&self) -> impl Iterator<Item = (SocketAddr, &InterceptedService)> {
        self.entries
            .iter()
            .filter_map(|(destination, id)| Some((*destination, self.services.get(id)?)))
    }

    /// The names that may be dialed, for the private DNS.
    pub fn names(&self) -> &NameTable {
        &self.names
    }

    /// An empty table with these names.
    pub(super) fn with_names(names: NameTable) -> Self {
        Self { names, ..Self::default() }
    }

    /// How many destinations it has.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a service. Returns the first destination that another service has already, with that
    /// service: the earlier one keeps it.
    pub(crate) fn add(
        &mut self,
        service: InterceptedService,
        destinations: impl IntoIterator<Item = SocketAddr>,
    ) -> Option<(SocketAddr, ServiceId)> {
        let mut taken = None;
        for destination in destinations {
            match self.entries.entry(destination) {
                Entry::Vacant(entry) => {
                    entry.insert(service.id.clone());
                }
                Entry::Occupied(entry) if *entry.get() != service.id => {
                    taken.get_or_insert_with(|| (destination, entry.get().clone()));
                }
                Entry::Occupied(_) => {}
            }
        }
        self.services.insert(service.id.clone(), service);
        taken
    }
}

impl ServiceTag {
    pub(crate) fn new(number: NonZeroU32) -> Self {
        Self(number)
    }

    /// The number; never zero.
    pub fn number(self) -> u32 {
        self.0.get()
    }
}
