//! Keeps what is copied in step with what the identity may dial and host, and with what the controller asks for.

use std::{collections::BTreeSet, num::NonZeroU32};

use nightgate_config::Mirror;
use nightgate_datapath::{DatapathError, Tunnel};
use nightgate_gateway::{
    hosted::{HostedName, HostedNumbers, HostedTable},
    intercept::ServiceTag,
    mirror::{Wish, Wishes, announce, plan_sessions, settle},
};
use nightgate_mirror::{Numbering, Plan};
use nightgate_model::configs::MirrorV1;
use nightgate_netlink::{Netlink, NetlinkError};
use nightgate_sdk::{Permission, Service};
use tracing::warn;

use crate::{
    copying::{Copying, FRAME_MTU, session},
    hooks::Hooks,
    table::Table,
};

/// Says of which services copies are made.
#[derive(Debug)]
pub(crate) struct Follower {
    copying: Copying,
    /// What the file says.
    mirror: Mirror,
    netlink: Netlink,
    /// What the controller asks for.
    wishes: Wishes,
    numbering: Numbering,
    numbers: HostedNumbers,
}

impl Follower {
    /// Knows of no service yet. The kernel knows the sessions of the plan.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub(crate) fn new(copying: Copying, mirror: Mirror) -> Result<Self, NetlinkError> {
        let mut numbering = Numbering::default();
        // The numbers of a first plan are what they are.
        numbering.settle(&copying.plan());
        let (netlink, wishes) = (Netlink::connect()?, Wishes::default());
        let numbers = HostedNumbers::default();
        Ok(Self { copying, mirror, netlink, wishes, numbering, numbers })
    }

    /// Makes the sessions that the controller asks for, beside those of the file. One that cannot be had is tried again with the next
    /// look at the services.
    pub(crate) async fn heed(&mut self, services: &[Service], hooks: &Hooks) {
        if !self.wishes.replace(services.iter().filter_map(wish).collect()) {
            return;
        }
        let (wanted, unfit): (Vec<_>, Vec<_>) =
            self.wishes.all().iter().cloned().partition(is_for_tunnelers);
        let planned = plan_sessions(&self.netlink, (&self.mirror, &wanted), FRAME_MTU).await;
        let settled = planned.map_err(|error| error.to_string()).and_then(|(plan, left_out)| {
            self.settle(plan, &mut hooks.lock())
                .map_err(|error| error.to_string())
                .map(|()| left_out)
        });
        let mut left_out = settled.unwrap_or_else(|error| BTreeSet::from([error]));
        left_out.extend(unfit.iter().map(|Wish { service, .. }| {
            format!("{} of service {service}: a tunneler takes no interfaces", MirrorV1::TYPE)
        }));
        self.wishes.note(left_out);
    }

    /// Goes on with other sessions.
    fn settle(&mut self, plan: Plan, hooks: &mut Tunnel) -> Result<(), DatapathError> {
        let plan = announce(hooks.mirror(), &mut self.numbering, plan, |session| session.value)?;
        settle(hooks.mirror(), &mut self.numbering, &plan)?;
        self.copying.set_plan(plan, hooks);
        Ok(())
    }

    /// Copies the flows of those services that sessions name. `table` has the numbers of services.
    pub(crate) fn follow(
        &mut self,
        services: &[Service],
        (identity, table): (&str, &mut Table),
        hooks: &mut Tunnel,
    ) {
        let plan = self.copying.plan();
        let dialed = table
            .names()
            .filter_map(|(number, name)| Some((number, session(&plan, name, identity)?)));
        let dialed = dialed.collect();
        let hosted = self.hosted(services, &plan, table);
        let image = hosted.image(|service, dialer| plan.claim_of(service, dialer));
        match hooks.set_mirrored(dialed).and_then(|()| hooks.set_hosted(image)) {
            // Connections get their numbers when the kernel knows these.
            Ok(()) => self.copying.set_hosted(hosted),
            Err(error) => warn!(
                %error,
                "not all that should be is copied for sensors; the next look at the services tries again"
            ),
        }
    }

    fn hosted(&mut self, services: &[Service], plan: &Plan, table: &mut Table) -> HostedTable {
        let bindable = services.iter().filter(|it| it.permissions.contains(&Permission::Bind));
        let named = bindable.filter_map(|Service { id, name, .. }| {
            let tag = ServiceTag::new(NonZeroU32::new(table.number(id))?);
            Some((id.clone(), HostedName { name: name.clone(), tag }))
        });
        let named = named.collect();
        let dialers = plan.identities().map(str::to_owned).collect();
        let differs = |service: &str, dialer: &str| {
            plan.claim_of(service, Some(dialer)) != plan.claim_of(service, None)
        };
        self.numbers.table(&named, &dialers, differs)
    }
}

/// Copies are made where flows begin, so that there is no interface to choose.
fn is_for_tunnelers(wish: &Wish) -> bool {
    !wish.document.contains_key("interfaces")
}

/// What the controller asks of this tunneler about a service.
fn wish(Service { name, config, .. }: &Service) -> Option<Wish> {
    let document = config.get(MirrorV1::TYPE)?.as_object()?.clone();
    Some(Wish { service: name.clone(), document })
}
