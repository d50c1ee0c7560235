//! What a configuration asks for beside the firewall's zones and rules, and that can change while the gateway runs:
//! the sockets of the private DNS, and the mirror.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use nightgate_config::{Gateway, Mirror, SensorName};
use nightgate_mirror::Plan;
use nightgate_netlink::{Netlink, Undo};
use nightgate_telemetry::Metrics;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::GatewayError;
use crate::{
    asked::Asked,
    dns::{DnsServer, Knowledge, NameTable, Policy},
    firewall::Firewall,
    intercept::Sources,
    mirror::{self, Healths, Planned, SensorWatch, Wish, Wishes},
    names::HostName,
    report::QueueDrops,
    resolved::{Resolved, Told},
    resolver::Resolver,
    state::StateFolder,
};

/// DNS and mirror as they are.
pub(super) struct Surroundings {
    netlink: Netlink,
    knowledge: Knowledge,
    policy: watch::Sender<Arc<Policy>>,
    dns: BTreeMap<SocketAddr, DnsServer>,
    /// Looks after the mirror's sensors, while there are any.
    sensors: Option<(Mirror, SensorWatch)>,
    /// What the controller asks the mirror for.
    wishes: Wishes,
    /// How to take the mirror's interfaces back, while there are any.
    pair: Option<Undo>,
    /// The host's resolver configuration, while it is ours.
    resolver: Option<Resolver>,
    /// systemd-resolved, while it asks the private DNS.
    resolved: Option<Resolved>,
    state: StateFolder,
}

/// What another configuration needs, ready to be used.
#[derive(Default)]
pub(super) struct Prepared {
    dns: BTreeMap<SocketAddr, DnsServer>,
    mirror: Option<Plan>,
    /// What the controller asks for and cannot have.
    left_out: BTreeSet<String>,
}

impl Surroundings {
    /// Nothing yet.
    pub(super) fn new(
        names: watch::Receiver<Arc<NameTable>>,
        (metrics, asked): (Metrics, Asked),
        state: StateFolder,
    ) -> Result<Self, GatewayError> {
        let (dns, pair) = (BTreeMap::new(), None);
        let (change, policy) = watch::channel(Arc::default());
        let knowledge = Knowledge { names, policy, metrics, asked };
        let netlink = Netlink::connect()?;
        let (resolver, resolved, sensors) = (None, None, None);
        let (policy, wishes) = (change, Wishes::default());
        Ok(Self {
            netlink,
            knowledge,
            policy,
            dns,
            sensors,
            wishes,
            pair,
            resolver,
            resolved,
            state,
        })
    }

    /// Opens and plans what a configuration needs beyond what is there, and announces mirror sessions to the rules that
    /// are put in force next. Nothing changes for anybody.
    ///
    /// # Errors
    /// An address cannot be listened on, or a sensor not be reached; nothing stays open.
    pub(super) async fn prepare(
        &self,
        gateway: &Gateway,
        firewall: &mut Firewall,
    ) -> Result<Prepared, GatewayError> {
        let mut prepared = Prepared::default();
        for address in listen(gateway).into_iter().filter(|a| !self.dns.contains_key(a)) {
            let server = DnsServer::start(&[address], self.knowledge.clone()).await?;
            prepared.dns.insert(address, server);
        }
        if let Some((plan, left_out)) = self.plan_mirror(gateway, firewall).await? {
            (prepared.mirror, prepared.left_out) = (Some(plan), left_out);
        }
        Ok(prepared)
    }

    async fn plan_mirror(
        &self,
        gateway: &Gateway,
        firewall: &mut Firewall,
    ) -> Result<Option<Planned>, GatewayError> {
        let Some(mirror) = &gateway.mirror else { return Ok(None) };
        let wanted = (mirror, self.wishes.all());
        let (plan, left_out) = mirror::plan(&self.netlink, gateway, wanted).await?;
        Ok(Some((firewall.announce_mirror(plan)?, left_out)))
    }

    /// Mirrors what the controller asks for, beside what the configuration in force says. The sessions of that keep their
    /// numbers, so that its rules need not be put in force anew; services are part of a session with the next
    /// [`Firewall::intercept`].
    pub(super) async fn follow(
        &mut self,
        wishes: Vec<Wish>,
        gateway: &Gateway,
        firewall: &mut Firewall,
    ) {
        if self.wishes.replace(wishes) {
            self.fulfil(gateway, firewall).await;
            info!(sessions = self.wishes.all().len(), "mirror sessions of the controller");
        }
    }

    /// Tries again to mirror what the controller asks for, if that could not be done: interfaces have changed. Says whether it has
    /// tried.
    pub(super) async fn retry(&mut self, gateway: &Gateway, firewall: &mut Firewall) -> bool {
        let are_left_out = self.wishes.are_left_out();
        if are_left_out {
            self.fulfil(gateway, firewall).await;
        }
        are_left_out
    }

    async fn fulfil(&mut self, gateway: &Gateway, firewall: &mut Firewall) {
        let settled = match self.plan_mirror(gateway, firewall).await {
            Ok(Some((plan, left_out))) => {
                firewall.settle_mirror(plan).map(|()| left_out).map_err(GatewayError::from)
            }
            Ok(None) => Ok(BTreeSet::new()),
            Err(error) => Err(error),
        };
        let left_out = settled.unwrap_or_else(|error| {
            firewall.forget_announced(true);
            BTreeSet::from([error.to_string()])
        });
        self.wishes.note(left_out);
    }

    /// Brings DNS and mirror to what a configuration says.
    ///
    /// # Errors
    /// The mirror cannot be changed.
    pub(super) async fn settle(
        &mut self,
        gateway: &Gateway,
        prepared: Prepared,
        firewall: &mut Firewall,
    ) -> Result<(), GatewayError> {
        self.policy.send_replace(Arc::new(policy(gateway)));
        let listen = listen(gateway);
        self.dns.retain(|address, _| listen.contains(address));
        self.dns.extend(prepared.dns);
        self.settle_resolver(gateway)?;
        self.settle_resolved(gateway).await?;
        self.settle_sensors(gateway, firewall)?;
        let Some(plan) = prepared.mirror else {
            firewall.detach_mirror()?;
            if let Some(undo) = self.pair.take() {
                self.netlink.undo(undo).await?;
            }
            return Ok(());
        };
        firewall.settle_mirror(plan)?;
        self.wishes.note(prepared.left_out);
        if self.pair.is_none() {
            let (pair, undo) = self.netlink.create_mirror_pair().await?;
            self.pair = Some(undo);
            firewall.attach_mirror(&pair)?;
        }
        Ok(())
    }

    /// Looks after the sensors of a configuration; those of the one before go on as they are if nothing has changed.
    fn settle_sensors(
        &mut self,
        gateway: &Gateway,
        firewall: &mut Firewall,
    ) -> Result<(), GatewayError> {
        let wanted = gateway.mirror.as_ref();
        if self.sensors.as_ref().map(|(mirror, _)| &mirror.sensors) == wanted.map(|m| &m.sensors) {
            return Ok(());
        }
        self.sensors = match wanted {
            Some(mirror) => Some((mirror.clone(), SensorWatch::start(mirror)?)),
            None => None,
        };
        firewall.set_sensors_down(BTreeSet::new())?;
        Ok(())
    }

    /// Waits until the health of a sensor has changed: those that are in no order now.
    pub(super) async fn sensors_changed(&mut self) -> BTreeSet<SensorName> {
        let healths = match &mut self.sensors {
            Some((_, watch)) => watch.changed().await,
            None => std::future::pending().await,
        };
        mirror::sensors_down(&healths)
    }

    /// The sensors and their health.
    pub(super) fn sensors(&self) -> Option<(&Mirror, Healths)> {
        self.sensors.as_ref().map(|(mirror, watch)| (mirror, watch.healths()))
    }

    /// What the queues of the interfaces towards sensors have dropped, as far as the kernel says.
    pub(super) async fn queue_drops(&self) -> QueueDrops {
        let mut drops = QueueDrops::new();
        for sensor in self.sensors.iter().flat_map(|(mirror, _)| mirror.sensors.values()) {
            if let Ok(interface) = self.netlink.interface(sensor.interface.as_str()).await
                && let Ok(found) = self.netlink.queue_drops(interface.index).await
            {
                drops.insert(sensor.interface.clone(), found);
            }
        }
        drops
    }

    /// Points the host's resolver at the private DNS, or gives it back.
    fn settle_resolver(&mut self, gateway: &Gateway) -> Result<(), GatewayError> {
        let wanted = gateway.dns.as_ref().and_then(|dns| dns.resolv_conf.as_ref());
        self.resolver = None;
        match wanted {
            Some(path) => {
                let servers = self.dns.keys().copied().collect::<Vec<_>>();
                self.resolver = Some(Resolver::take(path, servers, &self.state)?);
            }
            None => Resolver::give_back(&self.state)?,
        }
        Ok(())
    }

    /// Tells systemd-resolved of the private DNS, or has it forgotten.
    async fn settle_resolved(&mut self, gateway: &Gateway) -> Result<(), GatewayError> {
        let domains = gateway.dns.as_ref().map(|dns| dns.resolved.clone()).unwrap_or_default();
        let told = Told { servers: self.dns(), domains };
        if self.resolved.as_ref().is_some_and(|resolved| *resolved.told() == told) {
            return Ok(());
        }
        if let Some(resolved) = self.resolved.take() {
            resolved.forget(&self.netlink).await?;
        }
        if told.domains.is_empty() {
            // What a killed process may have left.
            self.netlink.remove_dns_link().await?;
        } else {
            self.resolved = Some(Resolved::tell(&self.netlink, told).await?);
        }
        Ok(())
    }

    /// As [`Surroundings::prepare`], for a configuration that has to be gone back to whether or not all of it can be
    /// had. Without it, its rules mirror nothing by filters.
    pub(super) async fn prepare_return(
        &self,
        gateway: &Gateway,
        firewall: &mut Firewall,
    ) -> Option<Prepared> {
        match self.prepare(gateway, firewall).await {
            Ok(prepared) => Some(prepared),
            Err(error) => {
                error!(%error, "private DNS and mirror cannot be put back, they stay as they are");
                firewall.forget_announced(false);
                None
            }
        }
    }

    /// As [`Surroundings::settle`], for a configuration that has to be gone back to.
    pub(super) async fn go_back(
        &mut self,
        gateway: &Gateway,
        prepared: Prepared,
        firewall: &mut Firewall,
    ) {
        if let Err(error) = self.settle(gateway, prepared, firewall).await {
            error!(%error, "the mirror cannot be put back");
        }
    }

    /// Where the private DNS answers.
    pub(super) fn dns(&self) -> Vec<SocketAddr> {
        self.dns.keys().copied().collect()
    }

    /// Takes everything back.
    pub(super) async fn close(self) {
        if let Some(resolver) = self.resolver
            && let Err(error) = resolver.release()
        {
            warn!(%error, "the host's resolver still asks the private DNS");
        }
        if let Some(resolved) = self.resolved
            && let Err(error) = resolved.forget(&self.netlink).await
        {
            warn!(%error, "systemd-resolved still asks the private DNS");
        }
        if let Some(undo) = self.pair
            && let Err(error) = self.netlink.undo(undo).await
        {
            warn!(%error, "the mirror's interfaces stay behind");
        }
    }
}

fn listen(gateway: &Gateway) -> BTreeSet<SocketAddr> {
    gateway.dns.iter().flat_map(|dns| &dns.listen).copied().collect()
}

/// Whom the private DNS answers, and whom it asks. The configuration has been checked: what it says is an address or a
/// domain is one.
fn policy(gateway: &Gateway) -> Policy {
    let Some(dns) = &gateway.dns else { return Policy::default() };
    let clients: Vec<String> = dns.clients.iter().map(ToString::to_string).collect();
    let domains = dns.domains.iter().filter_map(|domain| {
        Some((HostName::try_from(domain.domain.as_str()).ok()?, domain.upstreams.clone()))
    });
    Policy {
        clients: Sources::new(&clients).unwrap_or_default(),
        domains: domains.collect(),
        upstreams: dns.upstreams.clone(),
    }
}
