//! Links between namespaces.

use anyhow::Result;

use crate::{
    command::{program, run},
    namespace::Namespace,
};

/// Connects two namespaces by a pair of interfaces, both up.
///
/// # Errors
/// An interface of that name exists already.
pub fn veth(
    (left, left_name): (&Namespace, &str),
    (right, right_name): (&Namespace, &str),
) -> Result<()> {
    run(program("ip").args(["-n", left.name(), "link", "add", left_name, "type", "veth"]).args([
        "peer",
        "name",
        right_name,
        "netns",
        right.name(),
    ]))?;
    left.ip(&format!("link set {left_name} up"))?;
    right.ip(&format!("link set {right_name} up"))?;
    Ok(())
}

/// A switch inside a namespace.
#[derive(Debug)]
pub struct Bridge<'a> {
    namespace: &'a Namespace,
    name: &'a str,
}

impl<'a> Bridge<'a> {
    /// Makes a bridge, up, that says nothing of its own: no spanning tree, no multicast snooping.
    ///
    /// # Errors
    /// An interface of that name exists already.
    pub fn new(namespace: &'a Namespace, name: &'a str) -> Result<Self> {
        namespace.ip(&format!(
            "link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        ))?;
        namespace.ip(&format!("link set {name} up"))?;
        Ok(Self { namespace, name })
    }

    /// Connects an interface of another namespace; the bridge's end is called `port`.
    ///
    /// # Errors
    /// An interface of one of the names exists already.
    pub fn plug(&self, port: &str, (namespace, interface): (&Namespace, &str)) -> Result<()> {
        veth((self.namespace, port), (namespace, interface))?;
        self.namespace.ip(&format!("link set {port} master {}", self.name)).map(drop)
    }
}
