//! A row of routers.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use nightgate_fabric::{Command, Dial, EndId, KeyShare, Lane, LinkId, Router};
use nightgate_model::{
    entity::Terminator,
    id::{IdentityId, RouterId, ServiceId},
    replica::{LinkReport, Replica},
};
use nightgate_wire::link::{Frame, Numbered, Payload};

use crate::fixtures;
pub(crate) use crate::fixtures::router_id;

/// A hostile neighbour's connection, at every router that has one.
pub(crate) const MALLORY: LinkId = LinkId(9);

/// Routers `0..n` in a row, each linked to the next; `anna` dials at the first, `web` is hosted at
/// the last by `hugo`.
pub(crate) struct Row {
    pub(crate) routers: Vec<Router>,
    pub(crate) replica: Replica,
    pub(crate) now: Instant,
    pub(crate) events: Vec<(usize, Command)>,
    /// What a hostile neighbour was sent, and by which router.
    pub(crate) mallory: Vec<(usize, Frame)>,
}

impl Row {
    pub(crate) fn new(length: usize) -> Self {
        let now = Instant::now();
        let mut routers: Vec<Router> = (0..length)
            .map(|at| Router::new(router_id(at), [u8::try_from(at).unwrap(); 32]))
            .collect();
        for (at, router) in routers.iter_mut().enumerate() {
            if at > 0 {
                router.handle_link_up(LinkId(0), router_id(at - 1), now);
            }
            if at + 1 < length {
                router.handle_link_up(LinkId(1), router_id(at + 1), now);
            }
        }
        let replica = replica(Vec::new(), terminator(length - 1));
        let mut row = Self { routers, replica, now, events: Vec::new(), mallory: Vec::new() };
        // The first pings measure the links.
        row.pass(Duration::from_millis(10));
        row.replica.links = Arc::new(row.routers.iter().flat_map(Router::link_reports).collect());
        row.publish();
        row.last().host(terminator(length - 1));
        row
    }

    pub(crate) fn publish(&mut self) {
        let replica = Arc::new(self.replica.clone());
        for router in &mut self.routers {
            router.handle_replica(Arc::clone(&replica), self.now);
        }
        self.run();
    }

    /// Carries frames until all is quiet; keeps what is not a frame.
    pub(crate) fn run(&mut self) {
        let mut wires: VecDeque<(usize, LinkId, Frame)> = VecDeque::new();
        loop {
            for (at, router) in self.routers.iter_mut().enumerate() {
                while let Some(command) = router.poll_command() {
                    match command {
                        Command::Send(LinkId(0), frame) => {
                            wires.push_back((at - 1, LinkId(1), frame));
                        }
                        Command::Send(MALLORY, frame) => self.mallory.push((at, frame)),
                        Command::Send(_, frame) => wires.push_back((at + 1, LinkId(0), frame)),
                        other => self.events.push((at, other)),
                    }
                }
            }
            let Some((at, link, frame)) = wires.pop_front() else { return };
            self.routers[at].handle_frame(link, frame, self.now);
        }
    }

    /// Lets time go by.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += Duration::from_millis(10);
            for router in &mut self.routers {
                router.handle_timeout(self.now);
            }
            self.run();
        }
    }

    pub(crate) fn take_events(&mut self) -> Vec<(usize, Command)> {
        self.run();
        std::mem::take(&mut self.events)
            .into_iter()
            .filter(|(_, event)| !matches!(event, Command::LinksChanged))
            .collect()
    }

    /// Links a hostile router to this one.
    pub(crate) fn invite_mallory(&mut self, at: usize) {
        let now = self.now;
        self.routers[at].handle_link_up(MALLORY, RouterId::new("mallory"), now);
        self.run();
    }

    /// A hostile neighbour sends this router a frame.
    pub(crate) fn forge(&mut self, at: usize, frame: Frame) {
        let now = self.now;
        self.routers[at].handle_frame(MALLORY, frame, now);
        self.run();
    }

    /// Dials and accepts; gives both ends.
    pub(crate) fn connect(&mut self) -> (EndId, EndId) {
        self.take_events();
        let dialer = self.routers[0].dial(dial(), Lane::default(), self.now).unwrap();
        let events = self.take_events();
        let [(at, Command::Offer(host, circuit, offer))] = &events[..] else {
            panic!("expected an offer, got {events:?}");
        };
        assert_eq!((*at, &offer.dial), (self.routers.len() - 1, &dial()));
        let (host, circuit) = (*host, *circuit);
        let now = self.now;
        self.last().accept(host, key_share("host"), now);
        let opened = Command::Opened(dialer, circuit, key_share("host"));
        assert_eq!(self.take_events(), [(0, opened)]);
        (dialer, host)
    }

    pub(crate) fn last(&mut self) -> &mut Router {
        self.routers.last_mut().unwrap()
    }
}

pub(crate) fn terminator(router: usize) -> Terminator {
    fixtures::terminator("t", router)
}

pub(crate) fn replica(links: Vec<LinkReport>, terminator: Terminator) -> Replica {
    Replica {
        terminators: Arc::new(vec![terminator]),
        links: Arc::new(links),
        ..fixtures::replica(&["anna", "hugo"])
    }
}

pub(crate) fn dial() -> Dial {
    Dial {
        instance: String::new(),
        service: ServiceId::new("web"),
        dialer: IdentityId::new("anna"),
        caller: "anna".into(),
        key_share: key_share("dialer"),
        app_data: Bytes::from_static(b"{}"),
        session: Bytes::from_static(b"token"),
    }
}

pub(crate) fn key_share(of: &str) -> KeyShare {
    KeyShare {
        public_key: format!("key of the {of}").into(),
        handshake: format!("handshake of the {of}").into(),
        early_data: format!("early data of the {of}").into(),
    }
}

pub(crate) fn message(text: &'static str) -> Payload {
    Payload { body: Bytes::from_static(text.as_bytes()), ..Payload::default() }
}

pub(crate) fn numbered(sequence: u64, payload: Payload) -> Numbered {
    Numbered { sequence, echo: 0, payload }
}
