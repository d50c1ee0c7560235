//! Memberships with what their sets hold.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use nightgate_config::{Element, Membership, PortRange, Prefix, Sense, Set, SetName};

/// What an address or a port has to be among, or must not be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Members<T> {
    /// As the rule says it.
    pub membership: Membership<T>,
    /// The elements, and those of all sets; rules that say the same share it.
    pub all: Arc<[T]>,
}

impl<T> Members<T> {
    /// Whether something is as it has to be, if `contains` says whether an element holds it.
    pub(crate) fn allow(&self, contains: impl Fn(&T) -> bool) -> bool {
        self.all.iter().any(contains) == (self.membership.sense == Sense::In)
    }
}

/// Looks sets up, each of them once.
#[derive(Debug)]
pub(crate) struct Resolver<'a> {
    sets: &'a BTreeMap<SetName, Set>,
    addresses: HashMap<String, Arc<[Prefix]>>,
    ports: HashMap<String, Arc<[PortRange]>>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(sets: &'a BTreeMap<SetName, Set>) -> Self {
        Self { sets, addresses: HashMap::new(), ports: HashMap::new() }
    }

    pub(crate) fn addresses(
        &mut self,
        membership: Option<&Membership<Prefix>>,
    ) -> Option<Members<Prefix>> {
        resolve(self.sets, &mut self.addresses, membership)
    }

    pub(crate) fn ports(
        &mut self,
        membership: Option<&Membership<PortRange>>,
    ) -> Option<Members<PortRange>> {
        resolve(self.sets, &mut self.ports, membership)
    }
}

fn resolve<T: Element>(
    sets: &BTreeMap<SetName, Set>,
    known: &mut HashMap<String, Arc<[T]>>,
    membership: Option<&Membership<T>>,
) -> Option<Members<T>> {
    let membership = membership?.clone();
    let key = Membership { sense: Sense::In, ..membership.clone() }.to_string();
    let all = known.entry(key).or_insert_with(|| membership.members(sets).cloned().collect());
    Some(Members { all: Arc::clone(all), membership })
}
