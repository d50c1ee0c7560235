use rtnetlink::{
    AddressMessageBuilder, Error as RequestError,
    packet_route::{address::AddressMessage, route::RouteMessage, rule::RuleMessage},
};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    error::{NetlinkError, is_errno},
    handle::Netlink,
    prefix::Prefix,
};

/// How to take back what was added. Apply it with [`Netlink::undo`].
#[must_use = "without it the change stays on the host after the process ends"]
#[derive(Debug)]
pub struct Undo {
    /// In the order of the additions; undone from the end.
    steps: Vec<Step>,
}

/// The removal of one addition.
#[derive(Debug)]
pub(crate) enum Step {
    DeleteLink { name: &'static str, index: u32 },
    RemoveAddress { interface: String, index: u32, address: Prefix },
    RemoveRoute { object: String, message: Box<RouteMessage> },
    RemoveRule { object: String, message: Box<RuleMessage> },
    Restore { path: String, before: String },
}

impl Undo {
    /// Nothing was added.
    pub fn nothing() -> Self {
        Self { steps: Vec::new() }
    }

    /// Adds what was done later; it is undone first.
    pub fn append(&mut self, later: Self) {
        self.steps.extend(later.steps);
    }

    pub(crate) fn of(step: Step) -> Self {
        Self { steps: vec![step] }
    }
}

impl Netlink {
    /// Takes back what was added, last addition first. What is gone already is fine.
    ///
    /// Every step is tried; the first failure is returned, later ones are logged.
    pub async fn undo(&self, undo: Undo) -> Result<(), NetlinkError> {
        let mut outcome = Ok(());
        for step in undo.steps.into_iter().rev() {
            match (self.undo_step(step).await, &outcome) {
                (Ok(()), _) => {}
                (Err(error), Ok(())) => outcome = Err(error),
                (Err(error), Err(_)) => tracing::warn!(%error, "a network change stays behind"),
            }
        }
        outcome
    }

    async fn undo_step(&self, step: Step) -> Result<(), NetlinkError> {
        let (object, result) = match step {
            Step::Restore { path, before } => {
                return fs::write(&path, before).map_err(|source| NetlinkError::Sysctl {
                    path,
                    value: "what it was",
                    source,
                });
            }
            Step::DeleteLink { name, index } => {
                (format!("interface {name}"), self.handle.link().del(index).execute().await)
            }
            Step::RemoveAddress { interface, index, address } => (
                format!("address {address} of {interface}"),
                self.handle.address().del(address_message(index, address)).execute().await,
            ),
            Step::RemoveRoute { object, message } => {
                (object, self.handle.route().del(*message).execute().await)
            }
            Step::RemoveRule { object, message } => {
                (object, self.handle.rule().del(*message).execute().await)
            }
        };
        match result {
            Err(error) if !is_gone(&error) => Err(NetlinkError::request("remove", object, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn address_message(index: u32, prefix: Prefix) -> AddressMessage {
    match prefix.address() {
        IpAddr::V4(address) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(address, prefix.length())
            .build(),
        IpAddr::V6(address) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(index)
            .address(address, prefix.length())
            .build(),
    }
}

/// The kernel's words for "no such link, address, route or rule".
fn is_gone(error: &RequestError) -> bool {
    [libc::ENODEV, libc::EADDRNOTAVAIL, libc::ESRCH, libc::ENOENT]
        .iter()
        .any(|errno| is_errno(error, *errno))
}
