//! What Prometheus learns of a router.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use nightgate_fabric::Role;
use nightgate_model::{id::ServiceId, replica::Replica};
use nightgate_telemetry::{
    MetricsError, Scrape,
    metrics::{
        CIRCUIT_MEMORY, CIRCUIT_PLACES, CIRCUITS, CIRCUITS_CLOSED, CIRCUITS_MOVED,
        CONTROLLER_SILENCE, DIAL_TIME, DIALS, EVENTS_WAITING, HEALTH_EVENTS, LINK_BYTES,
        LINK_CONNECTIONS, LINK_COST, LINK_DROPS, LINK_QUEUE, LINK_REPEATED, LINK_ROUND_TRIP,
        LINK_SEGMENTS, MODEL_INDEX, TERMINATORS,
    },
};

use crate::{LinkStatus, Router, RouterStatus};

impl Router {
    /// The metrics of this router, in Prometheus' text format.
    ///
    /// # Errors
    /// They cannot be written as text.
    pub async fn metrics(&self) -> Result<String, MetricsError> {
        let status = self.status().await;
        let replica = self.replica().borrow().clone();
        let mut scrape = Scrape::default();
        add_links(&mut scrape, &status.links, &replica)?;
        add_circuits(&mut scrape, &status)?;
        self.add_dials(&mut scrape, &replica)?;
        self.add_health(&mut scrape, &replica)?;
        self.add_ended(&mut scrape)?;
        scrape.gauge(TERMINATORS, &[], status.terminators.len() as u64)?;
        scrape.gauge(MODEL_INDEX, &[], status.replica_index)?;
        scrape.gauge(CONTROLLER_SILENCE, &[], self.controller_silence().as_secs())?;
        scrape.gauge(EVENTS_WAITING, &[], self.notes.waiting() as u64)?;
        scrape.render()
    }

    fn add_dials(&self, scrape: &mut Scrape, replica: &Replica) -> Result<(), MetricsError> {
        for dials in self.dials.outcomes() {
            let service = service_name(replica, &dials.service);
            let outcome = dials.cause.as_deref().unwrap_or("opened");
            scrape.count(DIALS, &[service, outcome], dials.count)?;
            scrape.count(DIAL_TIME, &[service, outcome], dials.milliseconds)?;
        }
        Ok(())
    }

    fn add_health(&self, scrape: &mut Scrape, replica: &Replica) -> Result<(), MetricsError> {
        for ((service, passed), count) in self.health.totals() {
            let outcome = if passed { "passed" } else { "failed" };
            scrape.count(HEALTH_EVENTS, &[service_name(replica, &service), outcome], count)?;
        }
        Ok(())
    }

    fn add_ended(&self, scrape: &mut Scrape) -> Result<(), MetricsError> {
        let totals = self.notes.totals();
        scrape.count(CIRCUITS_MOVED, &[], totals.moved)?;
        for (cause, count) in totals.closed {
            scrape.count(CIRCUITS_CLOSED, &[cause], count)?;
        }
        Ok(())
    }

    /// How long nothing has come of the controller.
    fn controller_silence(&self) -> Duration {
        let contact = *self.contact.borrow();
        if contact.is_there {
            return Duration::ZERO;
        }
        SystemTime::now().duration_since(contact.heard).unwrap_or_default()
    }
}

fn service_name<'a>(replica: &'a Replica, id: &'a ServiceId) -> &'a str {
    replica.services.get(id).map_or(id.as_str(), |service| &service.name)
}

fn add_circuits(scrape: &mut Scrape, status: &RouterStatus) -> Result<(), MetricsError> {
    for (role, word) in [(Role::Dialer, "dialer"), (Role::Host, "host"), (Role::Transit, "transit")]
    {
        let count = status.circuits.iter().filter(|circuit| circuit.role == role).count();
        scrape.gauge(CIRCUITS, &[word], count as u64)?;
    }
    let memory = status.memory;
    scrape.gauge(CIRCUIT_MEMORY, &["kept"], memory.bytes)?;
    scrape.gauge(CIRCUIT_MEMORY, &["limit"], memory.budget)?;
    scrape.gauge(CIRCUIT_PLACES, &["ends"], memory.ends as u64)?;
    scrape.gauge(CIRCUIT_PLACES, &["routes"], memory.routes as u64)
}

/// One series for each neighbour: connections come and go.
fn add_links(
    scrape: &mut Scrape,
    links: &[LinkStatus],
    replica: &Replica,
) -> Result<(), MetricsError> {
    let mut peers: BTreeMap<&str, Vec<&LinkStatus>> = BTreeMap::new();
    for link in links {
        let known = replica.router(&link.info.peer);
        let name = known.map_or(link.info.peer.as_str(), |router| &router.name);
        peers.entry(name).or_default().push(link);
    }
    for (peer, links) in peers {
        let sum = |value: fn(&LinkStatus) -> u64| links.iter().map(|link| value(link)).sum::<u64>();
        let least = |value: fn(&LinkStatus) -> Option<u64>| {
            links.iter().filter_map(|link| value(link)).min()
        };
        scrape.gauge(LINK_CONNECTIONS, &[peer], links.len() as u64)?;
        if let Some(round_trip) = least(|link| link.info.round_trip_us) {
            scrape.gauge(LINK_ROUND_TRIP, &[peer], round_trip)?;
        }
        let cost = least(|link| Some(link.info.cost.into())).unwrap_or_default();
        scrape.gauge(LINK_COST, &[peer], cost)?;
        scrape.gauge(LINK_QUEUE, &[peer], sum(|link| link.queued as u64))?;
        scrape.count(LINK_DROPS, &[peer], sum(|link| link.dropped))?;
        scrape.count(LINK_BYTES, &[peer, "sent"], sum(|link| link.sent))?;
        scrape.count(LINK_BYTES, &[peer, "received"], sum(|link| link.received))?;
        scrape.count(LINK_SEGMENTS, &[peer], sum(|link| link.segments))?;
        scrape.count(LINK_REPEATED, &[peer], sum(|link| link.repeated))?;
    }
    Ok(())
}
