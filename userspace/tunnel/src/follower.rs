//! Keeps what is copied in step with what the identity may dial and host, and with what the controller asks for.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use nightgate_config::Mirror;
use nightgate_datapath::{DatapathError, Tunnel};
use nightgate_gateway::{
    hosted::{HostedName, HostedNumbers, HostedTable},
    intercept::ServiceTag,
    mirror::{Wish, plan_sessions},
};
use nightgate_mirror::{Numbering, Plan};
use nightgate_model::configs::MirrorV1;
use nightgate_netlink::{Netlink, NetlinkError};
use nightgate_sdk::{Permission, Service};
use tracing::{info, warn};

use crate::{
    copying::{Copying, FRAME_MTU, session},
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
    wishes: Vec<Wish>,
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
        let (netlink, wishes) = (Netlink::connect()?, Vec::new());
        let numbers = HostedNumbers::default();
        Ok(Self { copying, mirror, netlink, wishes, numbering, numbers })
    }

    /// Makes the sessions that the controller asks for, beside those of the file.
    pub(crate) async fn heed(&mut self, services: &[Service], hooks: &Mutex<Tunnel>) {
        let wishes: Vec<_> = services.iter().filter_map(wish).collect();
        if wishes == self.wishes {
            return;
        }
        self.wishes = wishes;
        let fits = |wish: &Wish| {
            let fits = !wish.document.contains_key("interfaces");
            if !fits {
                warn!(
                    service = wish.service,
                    "a mirror session that the controller asks for is left out: a tunneler has no interfaces to choose from"
                );
            }
            fits
        };
        let wanted: Vec<_> = self.wishes.iter().filter(|wish| fits(wish)).cloned().collect();
        let planned = plan_sessions(&self.netlink, (&self.mirror, &wanted), FRAME_MTU).await;
        let settled = match planned {
            Ok(plan) => {
                let hooks = &mut hooks.lock().unwrap_or_else(PoisonError::into_inner);
                self.settle(plan, hooks).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match settled {
            Ok(()) => info!(sessions = wanted.len(), "mirror sessions of the controller"),
            Err(error) => {
                warn!(error, "copies are made as before; what the controller asks for is not done");
            }
        }
    }

    /// Goes on with other sessions.
    fn settle(&mut self, plan: Plan, hooks: &mut Tunnel) -> Result<(), DatapathError> {
        let plan = self.numbering.assign(plan);
        for sensor in plan.sensors() {
            if !self.numbering.holds_sensor(sensor.number) {
                hooks.set_mirror_sensor(sensor.number, sensor.value)?;
            }
        }
        for session in plan.sessions() {
            if !self.numbering.holds_session(session.id) {
                hooks.clear_mirror_counters(session.id)?;
                hooks.set_mirror_session(session.id, session.value)?;
            }
        }
        let over = self.numbering.settle(&plan);
        for id in over.sessions {
            hooks.remove_mirror_session(id)?;
        }
        for number in over.sensors {
            hooks.remove_mirror_sensor(number)?;
        }
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

/// What the controller asks of this tunneler about a service.
fn wish(Service { name, config, .. }: &Service) -> Option<Wish> {
    let document = config.get(MirrorV1::TYPE)?.as_object()?.clone();
    Some(Wish { service: name.clone(), document })
}
