//! What a tunneler does, for people.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{attach::Place, shared::Shared};

/// A tunneler that runs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StatusReport {
    /// Who dials and hosts.
    pub identity: String,
    /// What the hooks are attached to.
    pub attach: AttachedTo,
    /// The cgroups whose programs are intercepted.
    pub cgroups: Vec<PathBuf>,
    /// The interfaces that the host's intercepted packets leave by.
    pub interfaces: Vec<String>,
    /// Prefixes of addresses that are intercepted.
    pub prefixes: usize,
    /// Numbers of the services, by which copies for sensors tell them apart.
    pub numbers: BTreeMap<String, u32>,
    /// Connections and UDP flows that are carried.
    pub flows: usize,
}

/// What hooks are attached to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachedTo {
    /// Cgroups: every flow knows its program.
    Cgroup,
    /// TC on the way out of interfaces: no flow does.
    Tc,
}

impl StatusReport {
    pub(crate) fn of(shared: &Shared, place: &Place) -> Self {
        let (attach, cgroups, interfaces) = match place {
            Place::Cgroups(cgroups) => (AttachedTo::Cgroup, cgroups.clone(), Vec::new()),
            Place::Interfaces(at) => (AttachedTo::Tc, Vec::new(), at.names.clone()),
        };
        Self {
            identity: shared.identity_name(),
            attach,
            cgroups,
            interfaces,
            prefixes: shared.prefixes(),
            numbers: shared.numbers(),
            flows: shared.flows.count(),
        }
    }
}
