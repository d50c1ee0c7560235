//! Hosts that the controller tells nobody of, because it is away: a router tells its neighbours of them itself.
//!
//! Each tells of hosts behind itself only, over links that prove who it is, and nobody passes it on: a router can say no more
//! here than it may tell the controller. A neighbour believes it as far as its own copy of the model lets the hosts host.

use std::mem::take;

use bytes::{Bytes, BytesMut};
use nightgate_model::{
    entity::{Permission, Terminator},
    id::{IdentityId, RouterId, ServiceId, TerminatorId},
};
use nightgate_wire::{
    Headers,
    link::{Frame, host},
};

use crate::{Dial, LinkId, Router, end::Hop};

/// Hosts that a router tells of at most, and bytes that they take in a frame; the others wait for the controller.
const MOST: usize = 1_024;
const MOST_BYTES: usize = 128 * 1024;

/// Hosts in one of the sections of a frame.
const IN_SECTION: usize = 64;

/// What a router tells its neighbours.
#[derive(Debug, Default)]
pub(crate) struct Announcement {
    /// Hosts that the controller has told nobody of, or not as they are, when this was made. They stay until they host
    /// no longer: a neighbour may hear of the controller later than this router.
    hosts: Vec<Terminator>,
    /// Grows with each change of them.
    turn: u64,
    /// What it follows from may have changed.
    pub(crate) is_stale: bool,
}

impl Router {
    /// Tells a neighbour, unless it knows.
    pub(crate) fn announce(&mut self, link: LinkId) {
        self.renew_announcement();
        let turn = self.announcement.turn;
        let Some(neighbour) = self.links.get_mut(&link).filter(|it| it.told < turn) else { return };
        neighbour.told = turn;
        self.emit(Hop::Link(link), Frame::Hosts(write(&self.announcement.hosts)));
    }

    fn renew_announcement(&mut self) {
        if !take(&mut self.announcement.is_stale) {
            return;
        }
        let is_away = self.valid_until.is_some();
        let before = &self.announcement.hosts;
        let is_wanted = |host: &&Terminator| {
            before.iter().any(|it| it.id == host.id)
                || is_away && !self.replica.terminators.contains(host)
        };
        let hosts = self.hosted.values().filter(is_wanted).take(MOST).cloned();
        let hosts: Vec<Terminator> = hosts.collect();
        if hosts != *before {
            self.announcement.hosts = hosts;
            self.announcement.turn += 1;
        }
    }

    /// What neighbours say of hosts for this dial, each once. It counts instead of what the model says of the same host.
    pub(crate) fn announced(&self, dial: &Dial) -> Vec<&Terminator> {
        let mut announced: Vec<&Terminator> = Vec::new();
        let all = self.links.values().flat_map(|neighbour| &neighbour.hosts);
        for host in all.filter(|it| (&it.service, &it.instance) == (&dial.service, &dial.instance))
        {
            if self.believes(host) && announced.iter().all(|known| known.id != host.id) {
                announced.push(host);
            }
        }
        announced
    }

    /// Whether the model lets a host be where its router says: it may host there, its id is no other's, and neither is
    /// the name of its instance.
    fn believes(&self, host: &Terminator) -> bool {
        let Terminator { service, router, host: identity, secret, .. } = host;
        let known = &self.replica.authorizations;
        let is_others = |it: &Terminator| {
            it.id == host.id && it.router != *router
                || it.service == *service
                    && it.instance == host.instance
                    && !it.instance.is_empty()
                    && !it.admits(identity, secret)
        };
        self.knows(identity)
            && known.allows(identity, Permission::Bind, service)
            && known.reaches(identity, service, router)
            && !self.replica.terminators.iter().any(is_others)
            && !self.hosted.contains_key(&host.id)
    }
}

/// As many hosts as there is room for.
fn write(hosts: &[Terminator]) -> Headers {
    let mut all = Headers::new();
    let mut bytes = 0;
    for (number, section) in (0..).zip(hosts.chunks(IN_SECTION)) {
        let mut headers = Headers::new();
        for (number, host) in (0..).zip(section) {
            let host = encoded(&write_host(host));
            bytes += host.len();
            if bytes <= MOST_BYTES {
                headers.put(number, host);
            }
        }
        all.put(number, encoded(&headers));
    }
    all
}

fn write_host(host: &Terminator) -> Headers {
    let mut headers = Headers::new();
    headers
        .put_text(host::TERMINATOR, host.id.as_str())
        .put_text(host::SERVICE, host.service.as_str())
        .put_text(host::IDENTITY, host.host.as_str())
        .put_text(host::PRECEDENCE, host.precedence.as_str())
        .put_u32(host::COST, host.cost.into());
    for (number, text) in [(host::INSTANCE, &host.instance), (host::SECRET, &host.secret)] {
        if !text.is_empty() {
            headers.put_text(number, text);
        }
    }
    headers
}

fn encoded(headers: &Headers) -> Bytes {
    let mut bytes = BytesMut::with_capacity(headers.encoded_len());
    headers.encode(&mut bytes);
    bytes.freeze()
}

/// The hosts that a neighbour tells of, at most as many as it may; `None` if it tells nothing that can be read.
pub(crate) fn read(all: &Headers, router: &RouterId) -> Option<Vec<Terminator>> {
    let mut hosts = Vec::new();
    for section in all.values() {
        for host in Headers::decode(section.clone()).ok()?.values().take(MOST - hosts.len()) {
            hosts.push(read_host(&Headers::decode(host.clone()).ok()?, router)?);
        }
    }
    Some(hosts)
}

fn read_host(headers: &Headers, router: &RouterId) -> Option<Terminator> {
    let text = |number| headers.text(number).map(str::to_owned);
    Some(Terminator {
        id: TerminatorId::new(text(host::TERMINATOR)?),
        service: ServiceId::new(text(host::SERVICE)?),
        router: router.clone(),
        host: IdentityId::new(text(host::IDENTITY)?),
        instance: text(host::INSTANCE).unwrap_or_default(),
        secret: text(host::SECRET).unwrap_or_default(),
        precedence: headers.text(host::PRECEDENCE)?.parse().ok()?,
        cost: headers.u32(host::COST)?.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use nightgate_model::entity::Precedence;
    use proptest::prelude::*;

    use super::*;

    fn hosts(count: usize, instance: &str) -> Vec<Terminator> {
        let host = |number: usize| Terminator {
            id: TerminatorId::new(format!("t{number}")),
            service: ServiceId::new("web"),
            router: RouterId::new("r"),
            host: IdentityId::new("hugo"),
            instance: instance.to_owned(),
            secret: if number.is_multiple_of(2) { "abc".to_owned() } else { String::new() },
            precedence: Precedence::Failed,
            cost: u16::try_from(number).unwrap(),
        };
        (0..count).map(host).collect()
    }

    #[test]
    fn hosts_are_read_as_they_were_written() {
        for count in [0, 1, IN_SECTION, IN_SECTION + 1, 700] {
            let hosts = hosts(count, "blue");
            assert_eq!(read(&write(&hosts), &RouterId::new("r")), Some(hosts));
        }
    }

    #[test]
    fn a_frame_has_room_for_what_is_told_of_and_no_more_is_kept() {
        let long = write(&hosts(MOST, &"x".repeat(1_000)));
        let frame = Frame::Hosts(long.clone());
        assert!(frame.encoded_len() < nightgate_wire::link::MAX_BODY);
        let fit = read(&long, &RouterId::new("r")).unwrap();
        assert!(fit.len() > 100 && fit.len() < MOST);
        let mut many = Headers::new();
        let section = encoded(&write(&hosts(1, "")));
        assert!(read(&many, &RouterId::new("r")).unwrap().is_empty());
        (0..20).for_each(|number| _ = many.put(number, encoded_section(&section)));
        assert_eq!(read(&many, &RouterId::new("r")).unwrap().len(), MOST);
    }

    /// A full section of one host, again and again.
    fn encoded_section(section: &Bytes) -> Bytes {
        let one = Headers::decode(section.clone()).unwrap();
        let host = Headers::decode(one.values().next().unwrap().clone()).unwrap();
        let host = host.values().next().unwrap().clone();
        let mut headers = Headers::new();
        (0..64).for_each(|number| _ = headers.put(number, host.clone()));
        encoded(&headers)
    }

    proptest! {
        #[test]
        fn any_section_is_read_or_refused(bytes: Vec<u8>) {
            if let Ok(headers) = Headers::decode(bytes.clone().into()) {
                read(&headers, &RouterId::new("r"));
            }
            let mut around = Headers::new();
            around.put(0, bytes);
            read(&around, &RouterId::new("r"));
        }
    }
}
