//! Circuits of the fabric over three routers.

use std::{
    collections::VecDeque,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use nightgate_fabric::{Command, Dial, EndId, KeyShare, Lane, LinkId, LinkQueue, Router, weight};
use nightgate_model::{
    entity::{Permission, Service, Terminator},
    id::{IdentityId, RouterId, ServiceId, TerminatorId},
    replica::{Replica, ReplicaIdentity},
};
use nightgate_wire::link::{Frame, Payload};

use crate::{Case, Run};

pub(crate) const CASES: &[Case] = &[
    Case { name: "circuit, send 16 KiB", prepare: send },
    Case { name: "circuit, a frame of 16 KiB through a router", prepare: transit },
    Case { name: "circuit, take 16 KiB and acknowledge it", prepare: take },
    Case { name: "circuit, dial to opened over three routers", prepare: dial },
];

/// Bytes of a message.
const BODY: usize = 16 * 1_024;
/// Links of a router to the one before it and to the next.
const BACK: LinkId = LinkId(0);
const ON: LinkId = LinkId(1);

/// As a link's writer has it: to the core, to the queue, to the connection.
fn send(_runs: usize) -> Result<Run> {
    let mut row = Row::new()?;
    let (dialer, _) = row.connect()?;
    let (payload, mut queue) = (payload(), LinkQueue::default());
    Ok(Box::new(move || {
        let now = row.now;
        row.first().send(dialer, payload.clone(), now)?;
        while let Some(command) = row.first().poll_command() {
            let Command::Send(_, frame) = command else { bail!("{command:?}") };
            queue.push(frame);
        }
        black_box(queue.pop().context("nothing was sent")?);
        Ok(())
    }))
}

fn transit(runs: usize) -> Result<Run> {
    let mut row = Row::new()?;
    let (dialer, _) = row.connect()?;
    let mut frames = row.frames(dialer, runs)?;
    let mut queue = LinkQueue::default();
    Ok(Box::new(move || {
        let frame = frames.pop_front().context("no more frames")?;
        row.routers[1].handle_frame(BACK, frame, row.now);
        while let Some(command) = row.routers[1].poll_command() {
            let Command::Send(ON, frame) = command else { bail!("{command:?}") };
            queue.push(frame);
        }
        black_box(queue.pop().context("nothing was passed on")?);
        Ok(())
    }))
}

fn take(runs: usize) -> Result<Run> {
    let mut row = Row::new()?;
    let (dialer, host) = row.connect()?;
    let mut frames = row.frames(dialer, runs)?;
    Ok(Box::new(move || {
        let frame = frames.pop_front().context("no more frames")?;
        let (last, now) = (&mut row.routers[2], row.now);
        last.handle_frame(BACK, frame, now);
        while let Some(command) = last.poll_command() {
            if let Command::Deliver(end, payload) = black_box(command) {
                last.consumed(end, weight(&payload), now);
            }
        }
        black_box(host);
        Ok(())
    }))
}

fn dial(_runs: usize) -> Result<Run> {
    let mut row = Row::new()?;
    Ok(Box::new(move || {
        black_box(row.connect()?);
        Ok(())
    }))
}

fn payload() -> Payload {
    Payload { body: Bytes::from(vec![7; BODY]), ..Payload::default() }
}

/// Three routers in a row. `dialer` may dial `service` at the first, `host` hosts it at the last.
struct Row {
    routers: [Router; 3],
    now: Instant,
}

impl Row {
    fn new() -> Result<Self> {
        let now = Instant::now();
        let routers = [0, 1, 2].map(|at| Router::new(router(at), [at; 32]));
        let mut own = Self { routers, now };
        for (at, link, peer) in [(0, ON, 1), (1, BACK, 0), (1, ON, 2), (2, BACK, 1)] {
            own.routers[at].handle_link_up(link, router(peer), now);
        }
        // The first pings measure the links.
        own.now += Duration::from_millis(10);
        let now = own.now;
        own.routers.iter_mut().for_each(|router| router.handle_timeout(now));
        own.settle();
        let terminator = terminator();
        let replica = Arc::new(Replica {
            links: Arc::new(own.routers.iter().flat_map(Router::link_reports).collect()),
            terminators: Arc::new(vec![terminator.clone()]),
            ..replica()
        });
        for router in &mut own.routers {
            router.handle_replica(Arc::clone(&replica), now);
        }
        own.routers[2].host(terminator);
        own.settle();
        Ok(own)
    }

    fn first(&mut self) -> &mut Router {
        &mut self.routers[0]
    }

    /// Carries frames until all is quiet; gives what else came, and from which router.
    fn settle(&mut self) -> Vec<(usize, Command)> {
        let (mut wires, mut events) = (VecDeque::new(), Vec::new());
        loop {
            for (at, router) in self.routers.iter_mut().enumerate() {
                while let Some(command) = router.poll_command() {
                    let Command::Send(link, frame) = command else {
                        events.push((at, command));
                        continue;
                    };
                    let is_back = link == BACK;
                    let (to, by) = if is_back { (at - 1, ON) } else { (at + 1, BACK) };
                    wires.push_back((to, by, frame));
                }
            }
            let Some((at, link, frame)) = wires.pop_front() else { return events };
            self.routers[at].handle_frame(link, frame, self.now);
        }
    }

    /// Dials and accepts; gives both ends.
    fn connect(&mut self) -> Result<(EndId, EndId)> {
        let now = self.now;
        let dial = Dial {
            service: ServiceId::new("service"),
            dialer: IdentityId::new("dialer"),
            instance: String::new(),
            caller: "dialer".to_owned(),
            key_share: KeyShare::default(),
            app_data: Bytes::new(),
            session: Bytes::from_static(b"token"),
        };
        let refused = |refusal| anyhow::anyhow!("the dial was refused: {refusal:?}");
        let dialer = self.first().dial(dial, Lane::default(), now).map_err(refused)?;
        let offered = self.settle().into_iter().find_map(|(_, event)| {
            if let Command::Offer(host, ..) = event { Some(host) } else { None }
        });
        let host = offered.context("no offer")?;
        self.routers[2].accept(host, KeyShare::default(), now);
        let is_open = |(_, event): &(usize, Command)| matches!(event, Command::Opened(end, ..) if *end == dialer);
        if !self.settle().iter().any(is_open) {
            bail!("the circuit was not opened");
        }
        Ok((dialer, host))
    }

    /// So many frames of a circuit, as the first router sends them.
    fn frames(&mut self, end: EndId, count: usize) -> Result<VecDeque<Frame>> {
        let now = self.now;
        let mut frames = VecDeque::new();
        for _ in 0..count {
            self.first().send(end, payload(), now)?;
            while let Some(command) = self.first().poll_command() {
                let Command::Send(_, frame) = command else { bail!("{command:?}") };
                frames.push_back(frame);
            }
        }
        Ok(frames)
    }
}

fn router(number: u8) -> RouterId {
    RouterId::new(format!("router-{number}"))
}

fn terminator() -> Terminator {
    Terminator {
        id: TerminatorId::new("terminator"),
        service: ServiceId::new("service"),
        router: router(2),
        host: IdentityId::new("host"),
        instance: String::new(),
        secret: String::new(),
        precedence: Default::default(),
        cost: 0,
    }
}

fn replica() -> Replica {
    let id = ServiceId::new("service");
    let service = Service {
        id: id.clone(),
        name: "service".to_owned(),
        role_attributes: [].into(),
        encryption_required: true,
        terminator_strategy: Default::default(),
        terminators: [].into(),
        config: [].into(),
        configs: [].into(),
    };
    let identity = |name: &str| {
        let known = ReplicaIdentity { name: name.to_owned(), fingerprint: None, origin: None };
        (IdentityId::new(name), known)
    };
    let mut replica = Replica {
        services: Arc::new([(id.clone(), service)].into()),
        identities: Arc::new(["dialer", "host"].map(identity).into()),
        ..Replica::default()
    };
    let grant = [("dialer", Permission::Dial), ("host", Permission::Bind)];
    for (identity, permission) in grant {
        replica.authorizations.grant(IdentityId::new(identity), permission, id.clone());
    }
    replica
}
