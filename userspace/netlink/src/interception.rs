use futures_util::TryStreamExt;
use rtnetlink::packet_route::{
    route::RouteProtocol,
    rule::{RuleAction, RuleAttribute, RuleMessage},
};

use crate::{
    error::NetlinkError,
    family::Family,
    handle::Netlink,
    route::{ROUTE_PROTOCOL, local_default},
    undo::{Step, Undo},
};

/// Priority of the product's policy rules: after the local table (0), before the main one (32766).
const RULE_PRIORITY: u32 = 100;

/// Policy routing that delivers marked packets to this host, whatever their destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Interception {
    /// Firewall mark the kernel programs put on packets for a transparent listener; not zero.
    pub mark: u32,
    /// Routing table of the product's own that holds nothing but the local default route.
    pub table: u32,
}

impl Netlink {
    /// Sets interception up for IPv4 and IPv6: a rule for the mark and a local default route in the
    /// table, on the loopback interface.
    pub async fn intercept(&self, interception: Interception) -> Result<Undo, NetlinkError> {
        let loopback = self.interface("lo").await?.index.value();
        let mut undo = Undo::nothing();
        for family in Family::BOTH {
            if let Err(error) =
                self.intercept_family(family, interception, loopback, &mut undo).await
            {
                if let Err(left) = self.undo(undo).await {
                    tracing::warn!(error = %left, "part of the interception's routing stays behind");
                }
                return Err(error);
            }
        }
        Ok(undo)
    }

    async fn intercept_family(
        &self,
        family: Family,
        interception: Interception,
        loopback: u32,
        undo: &mut Undo,
    ) -> Result<(), NetlinkError> {
        let route = local_default(family, interception.table, loopback);
        let object =
            format!("{} local default route of table {}", family.as_str(), interception.table);
        undo.append(self.add_route_message(route, object).await?);
        undo.append(self.add_rule(family, interception).await?);
        Ok(())
    }

    async fn add_rule(
        &self,
        family: Family,
        interception: Interception,
    ) -> Result<Undo, NetlinkError> {
        let message = rule(family, interception);
        let object = format!(
            "{} rule fwmark {:#x} lookup {}",
            family.as_str(),
            interception.mark,
            interception.table
        );
        // The kernel would add a second rule beside one of another originator, so look first.
        match self.existing_rule(family, &message, &object).await? {
            Some(RouteProtocol::Other(ROUTE_PROTOCOL)) => {}
            Some(_) => return Ok(Undo::nothing()),
            None => {
                let mut request = self.handle.rule().add();
                *request.message_mut() = message.clone();
                request
                    .execute()
                    .await
                    .map_err(|error| NetlinkError::request("add", object.clone(), error))?;
            }
        }
        Ok(Undo::of(Step::RemoveRule { object, message: Box::new(message) }))
    }

    /// Finds a rule with the same selector, priority and table; returns who made it.
    async fn existing_rule(
        &self,
        family: Family,
        wanted: &RuleMessage,
        object: &str,
    ) -> Result<Option<RouteProtocol>, NetlinkError> {
        let mut rules = Box::pin(self.handle.rule().get(family.version()).execute());
        while let Some(rule) = rules
            .try_next()
            .await
            .map_err(|error| NetlinkError::request("list", object.to_owned(), error))?
        {
            let same = wanted
                .attributes
                .iter()
                .filter(|attribute| !matches!(attribute, RuleAttribute::Protocol(_)))
                .all(|attribute| rule.attributes.contains(attribute));
            if same && rule.header.action == RuleAction::ToTable {
                return Ok(Some(protocol(&rule)));
            }
        }
        Ok(None)
    }
}

fn rule(family: Family, interception: Interception) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family.address_family();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(RULE_PRIORITY),
        RuleAttribute::FwMark(interception.mark),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Table(interception.table),
        RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL)),
    ];
    message
}

fn protocol(rule: &RuleMessage) -> RouteProtocol {
    rule.attributes
        .iter()
        .find_map(|attribute| {
            if let RuleAttribute::Protocol(protocol) = attribute { Some(*protocol) } else { None }
        })
        .unwrap_or(RouteProtocol::Unspec)
}
