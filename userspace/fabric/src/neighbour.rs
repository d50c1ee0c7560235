//! Connections to neighbours: how they come and go, what they cost, and the paths that take them.

use std::{collections::BTreeSet, time::Instant};

use nightgate_model::{id::RouterId, replica::LinkReport};
use nightgate_wire::link::{Frame, PathId};

use crate::{
    Command, EndId, FailureCause, Lane, LinkId, Router,
    end::Hop,
    link::{Link, LinkDue},
    open,
    path::{Lost, Passage, Path, Topology},
    router::Route,
    timer::Due,
};

/// Ends and routes that one router holds at most; half of them from one neighbour.
pub(crate) const MAX_CIRCUITS: usize = 200_000;

/// Connections of one link are alike if their costs differ by no more, in milliseconds, or by no more than a quarter: on
/// busy machines a ping waits that long for a CPU at either end, and circuits that all took the connection that was lucky
/// would share it while the other idles.
const ALIKE: u32 = 10;

/// A router that this one is linked to.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub(crate) links: BTreeSet<LinkId>,
    /// Bytes of its requests that hosts of this router have not answered.
    pub(crate) waiting: usize,
}

impl Router {
    /// What each link costs besides its latency, at least 1; for those that come up from now on.
    pub fn set_link_cost(&mut self, cost: u16) {
        self.link_cost = u32::from(cost).max(1);
    }

    /// Takes a new connection to a neighbour, authenticated by the shell.
    pub fn handle_link_up(&mut self, link: LinkId, peer: RouterId, now: Instant) {
        self.peers.entry(peer.clone()).or_default().links.insert(link);
        self.links.insert(link, Link::new(peer, self.link_cost, now));
        self.arm_link(link);
        self.links_changed();
    }

    /// Takes where a connection's frames are read and written; before, it is [`Lane::default`].
    pub fn place(&mut self, link: LinkId, lane: Lane) {
        if let Some(link) = self.links.get_mut(&link) {
            link.lane = lane;
        }
    }

    /// Takes that something came from a neighbour, be it less than a frame.
    pub fn handle_heard(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.handle_heard();
        }
    }

    /// Takes the loss of a connection: circuits over it look for another path.
    pub fn handle_link_down(&mut self, link: LinkId, now: Instant) {
        let Some(down) = self.links.remove(&link) else { return };
        self.timers.disarm(Due::Link(link), down.armed);
        let others = self.peers.get_mut(&down.peer);
        let last =
            others.is_none_or(|others| others.links.remove(&link) && others.links.is_empty());
        if last {
            self.peers.remove(&down.peer);
        }
        self.links_changed();
        // Another connection to the same neighbour will do as well.
        let lost = last.then(|| Lost(self.id.clone(), down.peer));
        let paths = (link, PathId(u64::MIN))..=(link, PathId(u64::MAX));
        let paths: Vec<_> = self.routes.range(paths).map(|(key, route)| (key.1, *route)).collect();
        for (path, route) in paths {
            self.routes.remove(&(link, path));
            match route.hop {
                Hop::Link(other) => {
                    self.remove_route(other, path);
                    self.emit(Hop::Link(other), Frame::Unroute(path, open::unroute(lost.as_ref())));
                }
                // This router sees for itself which links it has.
                Hop::End(end) => self.lose_path(end, path, None, now),
            }
        }
        self.settle(now);
    }

    pub(crate) fn handle_link_timeout(&mut self, id: LinkId, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.armed = None;
        match link.handle_timeout(self.random.number(), now) {
            LinkDue::Nothing => {}
            LinkDue::Ping(stamp) => {
                self.emit(Hop::Link(id), Frame::Ping(stamp));
                self.announce(id);
            }
            LinkDue::Dead => self.drop_link(id, FailureCause::LinkLost, now),
        }
        self.arm_link(id);
    }

    /// What has to be told to the controller about links: those whose latency is known.
    pub fn link_reports(&self) -> Vec<LinkReport> {
        let report = |(id, peer): (&RouterId, &Peer)| {
            let links = peer.links.iter().filter_map(|id| self.links.get(id));
            let measured = links.filter(|link| link.round_trip().is_some());
            let cost = measured.map(|link| link.cost).min()?;
            Some(LinkReport { from: self.id.clone(), to: id.clone(), cost })
        };
        self.peers.iter().filter_map(report).collect()
    }

    /// The cheapest path to a router; links of other routers as reported, our own as they are.
    pub(crate) fn find_path(&mut self, to: &RouterId, avoid: &[Lost]) -> Option<Path> {
        let own = self.id.clone();
        self.topology().path(&own, to, avoid)
    }

    /// What the cheapest path to a router costs.
    pub(crate) fn distance(&mut self, to: &RouterId, avoid: &[Lost]) -> Option<u64> {
        let own = self.id.clone();
        self.topology().distance(&own, to, avoid)
    }

    pub(crate) fn topology(&mut self) -> &mut Topology {
        let topology = self.topology.take().unwrap_or_else(|| {
            let own: Vec<LinkReport> = self.own_links().collect();
            let others = self.replica.links.iter().filter(|link| link.from != self.id);
            let routers = self.replica.routers.iter().map(Passage::from);
            Topology::new(&self.id, others.chain(&own), routers)
        });
        self.topology.insert(topology)
    }

    fn own_links(&self) -> impl Iterator<Item = LinkReport> {
        self.links.values().map(|link| LinkReport {
            from: self.id.clone(),
            to: link.peer.clone(),
            cost: link.cost,
        })
    }

    pub(crate) fn links_changed(&mut self) {
        self.topology = None;
        self.commands.push_back(Command::LinksChanged);
    }

    /// The connection to a neighbour that a new path takes, of those that are like the cheapest: one of this lane, if there
    /// is any, with the fewest paths.
    pub(crate) fn link_to(&self, peer: &RouterId, lane: Lane) -> Option<LinkId> {
        let links = || {
            self.peers
                .get(peer)
                .into_iter()
                .flat_map(|peer| &peer.links)
                .filter_map(|id| Some((*id, self.links.get(id)?)))
        };
        let cheapest = links().map(|(_, link)| link.cost).min()?;
        links()
            .filter(|(_, link)| link.cost <= cheapest.saturating_add(ALIKE.max(cheapest / 4)))
            .min_by_key(|(id, link)| (link.lane != lane, link.paths, *id))
            .map(|(id, _)| id)
    }

    /// Where a circuit's client is best served: where the frames of its first path come and go.
    pub fn lane_of(&self, end: EndId) -> Lane {
        self.ends.get(&end).map_or_else(Lane::default, |end| end.lane)
    }

    pub(crate) fn lane(&self, link: LinkId) -> Lane {
        self.links.get(&link).map_or_else(Lane::default, |link| link.lane)
    }

    /// Closes a link whose neighbour is silent or broke the protocol.
    pub(crate) fn drop_link(&mut self, link: LinkId, cause: FailureCause, now: Instant) {
        self.commands.push_back(Command::DropLink(link, cause));
        self.handle_link_down(link, now);
    }

    pub(crate) fn arm_link(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            let at = link.poll_timeout();
            self.timers.arm(Due::Link(id), &mut link.armed, Some(at));
        }
    }

    pub(crate) fn add_route(&mut self, link: LinkId, path: PathId, route: Route, now: Instant) {
        self.routes.insert((link, path), route);
        if let Some(link) = self.links.get_mut(&link) {
            link.add_path(now);
        }
        self.arm_link(link);
    }

    pub(crate) fn remove_route(&mut self, link: LinkId, path: PathId) -> Option<Route> {
        let route = self.routes.remove(&(link, path))?;
        if let Some(link) = self.links.get_mut(&link) {
            link.paths -= 1;
        }
        Some(route)
    }

    /// Whether there is no room for another circuit, or none for another one from this neighbour.
    pub(crate) fn is_full(&self, from: Option<LinkId>) -> bool {
        let peer = from.and_then(|link| self.peers.get(&self.links.get(&link)?.peer));
        let links = peer.into_iter().flat_map(|peer| &peer.links);
        let share: usize = links.filter_map(|id| Some(self.links.get(id)?.paths)).sum();
        self.ends.len() + self.routes.len() >= MAX_CIRCUITS || share >= MAX_CIRCUITS / 2
    }
}
