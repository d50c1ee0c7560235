//! What connected routers report: terminators, links and where they accept clients.

use std::collections::{BTreeMap, BTreeSet};

use nightgate_model::{
    activity::{self, Activity, CircuitNote},
    entity::Terminator,
    event::{LinkChange, RouterChange, TerminatorChange},
    id::{RouterId, TerminatorId},
    replica::LinkReport,
};
use nightgate_store::Timestamp;
use tokio_util::sync::CancellationToken;

use super::lost::LostCircuits;
use crate::events::Told;

/// Most terminators that one router may report.
const MAX_TERMINATORS: usize = 100_000;

/// Most links that one router may report.
const MAX_LINKS: usize = 4_096;

/// What connected routers report.
#[derive(Default)]
pub(crate) struct Live {
    routers: BTreeMap<RouterId, LiveRouter>,
    connections: u64,
    /// What has changed and nobody has told yet.
    told: Vec<Told>,
    lost: LostCircuits,
}

/// What connected routers reported, at one moment.
pub(crate) struct LiveReport {
    /// Where each connected router accepts clients and links.
    pub(crate) addresses: BTreeMap<RouterId, Option<String>>,
    /// All terminators.
    pub(crate) terminators: Vec<Terminator>,
    /// All links.
    pub(crate) links: Vec<LinkReport>,
}

/// One connection of one router. A later connection of the same router supersedes it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// Which router.
    pub(crate) router: RouterId,
    /// Cancelled when another connection takes this one's place.
    pub(crate) superseded: CancellationToken,
    number: u64,
}

/// A report that is not accepted; the connection ends.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum LiveError {
    /// It concerns another router.
    #[error("router {reporter} reported something of router {subject}")]
    Foreign {
        /// Who reported.
        reporter: RouterId,
        /// Of whom.
        subject: RouterId,
    },
    /// Too much of it.
    #[error("more than {limit} {what} on one router")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}

struct LiveRouter {
    connection: Connection,
    address: Option<String>,
    terminators: BTreeMap<TerminatorId, Terminator>,
    links: Vec<LinkReport>,
    activity: Activity,
}

impl Live {
    /// A router connected; what it reported before is forgotten.
    pub(crate) fn connect(
        &mut self,
        router: RouterId,
        address: Option<String>,
        terminators: Vec<Terminator>,
        links: Vec<LinkReport>,
    ) -> Result<Connection, LiveError> {
        if terminators.len() > MAX_TERMINATORS {
            return Err(LiveError::TooMany { what: "terminators", limit: MAX_TERMINATORS });
        }
        for terminator in &terminators {
            check_own(&router, &terminator.router)?;
        }
        check_links(&router, &links)?;
        self.connections += 1;
        let connection = Connection {
            router: router.clone(),
            superseded: CancellationToken::new(),
            number: self.connections,
        };
        if let Some(earlier) = self.routers.get(&router) {
            earlier.connection.superseded.cancel();
            let earlier = earlier.connection.clone();
            self.disconnect(&earlier, "another connection of the router took its place");
        }
        let change = RouterChange::Connected;
        let told =
            Told::Router { change, router: router.clone(), address: address.clone(), reason: None };
        self.told.push(told);
        let live = LiveRouter {
            connection: connection.clone(),
            address,
            terminators: BTreeMap::new(),
            links: Vec::new(),
            activity: Activity::default(),
        };
        self.routers.insert(router, live);
        for terminator in terminators {
            self.add_terminator(&connection, terminator)?;
        }
        self.set_links(&connection, links)?;
        Ok(connection)
    }

    /// A connection ended: what its router reported is gone, unless it has connected again.
    pub(crate) fn disconnect(&mut self, connection: &Connection, reason: &str) {
        if self.router_of(connection).is_none() {
            return;
        }
        let Some(gone) = self.routers.remove(&connection.router) else { return };
        let links = gone.links.into_iter().map(|link| Told::Link(LinkChange::Down, link));
        let removed = |it| Told::Terminator(TerminatorChange::Removed, it);
        self.told.extend(links.chain(gone.terminators.into_values().map(removed)));
        self.told.push(Told::Router {
            change: RouterChange::Disconnected,
            router: connection.router.clone(),
            address: gone.address,
            reason: Some(reason.to_owned()),
        });
    }

    /// What has changed since it was last asked.
    pub(super) fn take_told(&mut self, now: Timestamp) -> Vec<Told> {
        let due = self.lost.take_due(now).into_iter();
        self.told.extend(due.map(|(reporter, note)| Told::Circuit(reporter, Box::new(note))));
        std::mem::take(&mut self.told)
    }

    /// Takes what happened to a circuit, as this router tells.
    pub(crate) fn note_circuit(&mut self, reporter: &RouterId, note: CircuitNote, now: Timestamp) {
        let is_connected = |router: &RouterId| self.routers.contains_key(router);
        if let Some(note) = self.lost.handle(reporter, note, is_connected, now) {
            self.told.push(Told::Circuit(reporter.clone(), Box::new(note)));
        }
    }

    /// A service is hosted behind a router.
    pub(crate) fn add_terminator(
        &mut self,
        connection: &Connection,
        terminator: Terminator,
    ) -> Result<(), LiveError> {
        check_own(&connection.router, &terminator.router)?;
        let Some(router) = self.router_of(connection) else { return Ok(()) };
        let known = router.terminators.contains_key(&terminator.id);
        if !known && router.terminators.len() >= MAX_TERMINATORS {
            return Err(LiveError::TooMany { what: "terminators", limit: MAX_TERMINATORS });
        }
        let before = router.terminators.insert(terminator.id.clone(), terminator.clone());
        let change = match before {
            Some(before) if before == terminator => return Ok(()),
            Some(_) => TerminatorChange::Changed,
            None => TerminatorChange::Added,
        };
        self.told.push(Told::Terminator(change, terminator));
        Ok(())
    }

    /// A service is hosted behind a router no longer.
    pub(crate) fn remove_terminator(&mut self, connection: &Connection, id: &TerminatorId) {
        let removed = self.router_of(connection).and_then(|router| router.terminators.remove(id));
        if let Some(terminator) = removed {
            self.told.push(Told::Terminator(TerminatorChange::Removed, terminator));
        }
    }

    /// Replaces the links of a router.
    pub(crate) fn set_links(
        &mut self,
        connection: &Connection,
        links: Vec<LinkReport>,
    ) -> Result<(), LiveError> {
        check_links(&connection.router, &links)?;
        if let Some(router) = self.router_of(connection) {
            let before = std::mem::replace(&mut router.links, links.clone());
            self.told.extend(changed_links(&before, &links));
        }
        Ok(())
    }

    /// Replaces what a router carries. Other routers are not told.
    pub(crate) fn set_activity(
        &mut self,
        connection: &Connection,
        activity: Activity,
    ) -> Result<(), LiveError> {
        for (what, count, limit) in [
            ("circuits", activity.circuits.len(), activity::MAX_CIRCUITS),
            ("outcomes of dials", activity.dials.len(), activity::MAX_OUTCOMES),
        ] {
            if count > limit {
                return Err(LiveError::TooMany { what, limit });
            }
        }
        if let Some(router) = self.router_of(connection) {
            router.activity = activity;
        }
        Ok(())
    }

    /// What a connected router carries.
    pub(crate) fn activity(&self, router: &RouterId) -> Option<&Activity> {
        self.routers.get(router).map(|router| &router.activity)
    }

    /// What all connected routers carry.
    pub(crate) fn activities(&self) -> impl Iterator<Item = &Activity> {
        self.routers.values().map(|router| &router.activity)
    }

    /// Whether a router is connected.
    pub(crate) fn is_connected(&self, router: &RouterId) -> bool {
        self.routers.contains_key(router)
    }

    /// `host:port` where a connected router accepts clients and links.
    pub(crate) fn address(&self, router: &RouterId) -> Option<&str> {
        self.routers.get(router)?.address.as_deref()
    }

    /// All terminators, by router.
    pub(crate) fn terminators(&self) -> impl Iterator<Item = &Terminator> {
        self.routers.values().flat_map(|router| router.terminators.values())
    }

    /// Everything that is reported now.
    pub(crate) fn report(&self) -> LiveReport {
        LiveReport {
            addresses: self
                .routers
                .iter()
                .map(|(id, router)| (id.clone(), router.address.clone()))
                .collect(),
            terminators: self.terminators().cloned().collect(),
            links: self.routers.values().flat_map(|router| router.links.clone()).collect(),
        }
    }

    fn router_of(&mut self, connection: &Connection) -> Option<&mut LiveRouter> {
        self.routers
            .get_mut(&connection.router)
            .filter(|router| router.connection.number == connection.number)
    }
}

/// Links that came and went; one whose cost changed did neither.
fn changed_links(before: &[LinkReport], after: &[LinkReport]) -> Vec<Told> {
    let ends =
        |links: &[LinkReport]| links.iter().map(|link| link.to.clone()).collect::<BTreeSet<_>>();
    let (had, has) = (ends(before), ends(after));
    let down = before.iter().filter(|link| !has.contains(&link.to));
    let up = after.iter().filter(|link| !had.contains(&link.to));
    let down = down.map(|link| Told::Link(LinkChange::Down, link.clone()));
    down.chain(up.map(|link| Told::Link(LinkChange::Up, link.clone()))).collect()
}

fn check_links(router: &RouterId, links: &[LinkReport]) -> Result<(), LiveError> {
    if links.len() > MAX_LINKS {
        return Err(LiveError::TooMany { what: "links", limit: MAX_LINKS });
    }
    links.iter().try_for_each(|link| check_own(router, &link.from))
}

fn check_own(reporter: &RouterId, subject: &RouterId) -> Result<(), LiveError> {
    if reporter == subject {
        return Ok(());
    }
    Err(LiveError::Foreign { reporter: reporter.clone(), subject: subject.clone() })
}

#[cfg(test)]
mod tests {
    use nightgate_model::id::{IdentityId, ServiceId};

    use super::*;

    fn terminator(router: &str, id: &str) -> Terminator {
        Terminator {
            id: TerminatorId::new(id),
            service: ServiceId::new("s"),
            router: RouterId::new(router),
            host: IdentityId::new("h"),
            instance: String::new(),
            secret: String::new(),
            precedence: Default::default(),
            cost: 0,
        }
    }

    fn link(from: &str, to: &str) -> LinkReport {
        LinkReport { from: RouterId::new(from), to: RouterId::new(to), cost: 1 }
    }

    fn connect(live: &mut Live, router: &str) -> Connection {
        let terminators = vec![terminator(router, &format!("{router}-t"))];
        let links = vec![link(router, "x")];
        live.connect(RouterId::new(router), Some("r:1".into()), terminators, links).unwrap()
    }

    #[test]
    fn a_disconnect_removes_what_the_router_reported_and_nothing_else() {
        let mut live = Live::default();
        let first = connect(&mut live, "a");
        let _second = connect(&mut live, "b");
        live.disconnect(&first, "test");
        assert!(!live.is_connected(&RouterId::new("a")));
        let left: Vec<_> = live.terminators().map(|t| t.id.as_str()).collect();
        assert_eq!(left, ["b-t"]);
        assert_eq!(live.report().links, [link("b", "x")]);
    }

    #[test]
    fn a_second_connection_supersedes_the_first_and_survives_its_end() {
        let mut live = Live::default();
        let first = connect(&mut live, "a");
        let second = connect(&mut live, "a");
        assert!(first.superseded.is_cancelled());
        assert!(!second.superseded.is_cancelled());
        live.add_terminator(&first, terminator("a", "late")).unwrap();
        live.disconnect(&first, "test");
        assert!(live.is_connected(&RouterId::new("a")));
        assert_eq!(live.terminators().count(), 1);
    }

    #[test]
    fn a_router_reports_only_of_itself() {
        let mut live = Live::default();
        let connection = connect(&mut live, "a");
        assert!(live.add_terminator(&connection, terminator("b", "t")).is_err());
        assert!(live.set_links(&connection, vec![link("b", "a")]).is_err());
        let refused = live.connect(RouterId::new("a"), None, vec![terminator("b", "t")], vec![]);
        assert!(refused.is_err());
        assert_eq!(live.terminators().count(), 1);
    }
}
