//! The fabric core and what is around it: events in, commands out.

use std::{collections::HashMap, sync::Arc, time::Instant};

use nightgate_fabric::{
    CircuitInfo, Command, Dial, DialRefusal, EndId, FailureCause, KeyShare, Lane, LinkId, LinkInfo,
    MemoryInfo, Router as Core, TracedHop,
};
use nightgate_model::{
    entity::Terminator,
    id::{IdentityId, RouterId, TerminatorId},
    replica::Replica,
};
use nightgate_wire::link::{CircuitId, Frame, Payload};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tracing::{debug, info};

use crate::{
    Circuit, Incoming,
    circuit::EndIo,
    mailbox::Mailbox,
    notes::{Chronicle, Notes},
    outbox::Outbox,
    proof::Proofs,
    report::Report,
    status::LinkStatus,
    trace::Traces,
    usage::Meter,
};

/// What happens around the core.
#[derive(Debug)]
pub(crate) enum Event {
    Dial {
        dial: Dial,
        sticky: Option<TerminatorId>,
        lane: Lane,
        reply: oneshot::Sender<Result<Circuit, DialRefusal>>,
    },
    Bind {
        terminator: Terminator,
        offers: mpsc::UnboundedSender<Incoming>,
    },
    Rebind(Terminator),
    Unbind(TerminatorId),
    Accept {
        end: EndId,
        share: KeyShare,
        peer: KeyShare,
        reply: oneshot::Sender<Circuit>,
    },
    Refuse {
        end: EndId,
        refusal: DialRefusal,
    },
    Send {
        end: EndId,
        payload: Payload,
    },
    Consumed {
        end: EndId,
        weight: u64,
    },
    Close(EndId),
    LinkUp {
        link: LinkId,
        peer: RouterId,
        lane: Lane,
        outbox: Outbox,
    },
    LinkDown(LinkId),
    Frame {
        link: LinkId,
        frame: Frame,
        room: OwnedSemaphorePermit,
    },
    Heard(LinkId),
    Replica(Arc<Replica>),
    Validity(Option<Instant>),
    Cut(CircuitId),
    Bar(IdentityId),
    Unbar(IdentityId),
    Status(oneshot::Sender<Status>),
    Trace {
        end: EndId,
        hops: u32,
        reply: oneshot::Sender<TracedHop>,
    },
    /// Something may be due.
    Time,
}

/// What there is to say of the core.
#[derive(Debug, Default)]
pub(crate) struct Status {
    pub(crate) links: Vec<LinkStatus>,
    pub(crate) circuits: Vec<CircuitInfo>,
    pub(crate) terminators: Vec<Terminator>,
    pub(crate) memory: MemoryInfo,
}

/// How far the client of an end has come.
#[derive(Debug)]
enum EndClient {
    /// Since when.
    Dialing(oneshot::Sender<Result<Circuit, DialRefusal>>, Instant),
    Offered(CircuitId),
    Open(EndIo),
}

pub(crate) struct Actor {
    core: Core,
    events: Mailbox,
    report: watch::Sender<Report>,
    ends: HashMap<EndId, EndClient>,
    links: HashMap<LinkId, Outbox>,
    bindings: HashMap<TerminatorId, mpsc::UnboundedSender<Incoming>>,
    proofs: Proofs,
    chronicle: Chronicle,
    traces: Traces,
    /// When [`Event::Time`] will come.
    alarm: Option<Instant>,
}

impl Actor {
    pub(crate) fn new(
        id: RouterId,
        events: Mailbox,
        report: watch::Sender<Report>,
        (proofs, notes, meter): (Proofs, Notes, Meter),
        link_cost: u16,
    ) -> Self {
        let mut core = Core::new(id, seed());
        core.set_link_cost(link_cost);
        Self {
            core,
            events,
            report,
            ends: HashMap::new(),
            links: HashMap::new(),
            bindings: HashMap::new(),
            proofs,
            chronicle: Chronicle::new(notes, meter),
            traces: Traces::default(),
            alarm: None,
        }
    }

    /// Takes an event, and does what follows from it.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) {
        self.take(event, now);
        self.carry_out(now);
    }

    /// When [`Event::Time`] is to come, if that is earlier than it will.
    pub(crate) fn new_alarm(&mut self) -> Option<Instant> {
        let (due, _reason) = self.core.poll_timeout()?;
        let is_earlier = self.alarm.is_none_or(|alarm| due < alarm);
        is_earlier.then(|| *self.alarm.insert(due))
    }

    fn handle_time(&mut self, now: Instant) {
        self.alarm = None;
        if self.core.poll_timeout().is_some_and(|(due, _reason)| due <= now) {
            self.core.handle_timeout(now);
        }
    }

    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Dial { dial, sticky, lane, reply } => {
                if let Some(terminator) = sticky {
                    self.core.recall(&dial, &terminator);
                }
                self.dial((dial, lane), reply, now);
            }
            Event::Bind { terminator, offers } => {
                self.bindings.insert(terminator.id.clone(), offers);
                self.core.host(terminator);
                self.publish();
            }
            Event::Rebind(terminator) => {
                // Its binding may have ended by the model in the meantime.
                if self.bindings.contains_key(&terminator.id) {
                    self.core.host(terminator);
                    self.publish();
                }
            }
            Event::Unbind(terminator) => {
                self.bindings.remove(&terminator);
                self.core.unhost(&terminator);
                self.publish();
            }
            Event::Accept { end, share, peer, reply } => {
                self.accept(end, (share, peer), reply, now)
            }
            Event::Refuse { end, refusal } => {
                self.ends.remove(&end);
                self.core.refuse(end, &refusal, now);
            }
            // The end may be over already, which its client learns from the closed circuit.
            Event::Send { end, payload } => drop(self.core.send(end, payload, now)),
            Event::Consumed { end, weight } => self.core.consumed(end, weight, now),
            Event::Close(end) => {
                self.ends.remove(&end);
                self.core.close(end, now);
            }
            Event::LinkUp { link, peer, lane, outbox } => {
                info!(%peer, "link up");
                self.links.insert(link, outbox);
                self.core.handle_link_up(link, peer, now);
                self.core.place(link, lane);
                // The first ping, which measures the link's cost.
                self.core.handle_timeout(now);
            }
            Event::LinkDown(link) => {
                self.links.remove(&link);
                self.core.handle_link_down(link, now);
            }
            Event::Frame { link, frame, room } => {
                self.core.handle_frame(link, frame, now);
                drop(room);
            }
            Event::Heard(link) => self.core.handle_heard(link),
            Event::Replica(replica) => self.core.handle_replica(replica, now),
            Event::Validity(until) => self.core.handle_validity(until),
            Event::Cut(circuit) => self.core.cut(circuit, now),
            Event::Bar(identity) => self.core.bar(identity, now),
            Event::Unbar(identity) => self.core.unbar(&identity),
            Event::Trace { end, hops, reply } => {
                let number = self.traces.begin(end, reply);
                self.core.trace(end, number, hops, now);
            }
            Event::Status(reply) => {
                drop(reply.send(self.status()));
            }
            Event::Time => self.handle_time(now),
        }
    }

    fn dial(
        &mut self,
        (dial, lane): (Dial, Lane),
        reply: oneshot::Sender<Result<Circuit, DialRefusal>>,
        now: Instant,
    ) {
        match self.core.dial(dial, lane, now) {
            Ok(end) => {
                self.ends.insert(end, EndClient::Dialing(reply, now));
            }
            Err(refusal) => drop(reply.send(Err(refusal))),
        }
    }

    fn accept(
        &mut self,
        end: EndId,
        (share, peer): (KeyShare, KeyShare),
        reply: oneshot::Sender<Circuit>,
        now: Instant,
    ) {
        // Absent when the dialer has gone: dropping `reply` says so.
        let Some(EndClient::Offered(id)) = self.ends.get(&end) else { return };
        let (circuit, io) = Circuit::new((end, *id), peer, self.events.clone());
        self.ends.insert(end, EndClient::Open(io));
        self.chronicle.accepted(end, now);
        self.core.accept(end, share, now);
        // A host that no longer waits drops the circuit, which closes it.
        drop(reply.send(circuit));
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some(command) = self.core.poll_command() {
            match command {
                Command::Send(link, frame) => {
                    let frame = self.proofs.prove(frame);
                    if let Some(outbox) = self.links.get(&link) {
                        outbox.push(frame);
                    }
                }
                Command::DropLink(link, cause) => {
                    info!(%cause, "link dropped");
                    self.links.remove(&link);
                }
                Command::Offer(end, circuit, offer) => self.offer(end, circuit, *offer, now),
                Command::Opened(end, circuit, host) => self.opened((end, circuit), host, now),
                Command::Refused(end, refusal) => {
                    if let Some(EndClient::Dialing(reply, _)) = self.ends.remove(&end) {
                        drop(reply.send(Err(refusal)));
                    }
                }
                Command::Deliver(end, payload) => {
                    if let Some(EndClient::Open(io)) = self.ends.get(&end) {
                        io.deliver(payload);
                    }
                }
                Command::Credit(end, bytes) => {
                    if let Some(EndClient::Open(io)) = self.ends.get(&end) {
                        io.credit(bytes);
                    }
                }
                Command::Moved(end, path) => {
                    if let Some(info) = self.core.circuit(end) {
                        self.chronicle.moved((end, info), now);
                    }
                    let path: Vec<&str> = path.iter().map(RouterId::as_str).collect();
                    debug!(path = path.join(" "), "circuit moved to another path");
                }
                Command::Closed(end, cause) => {
                    debug!(%cause, "circuit closed");
                    if let Some(EndClient::Open(io)) = self.ends.remove(&end) {
                        io.close(cause);
                    }
                }
                Command::Unbind(terminator) => {
                    self.bindings.remove(&terminator);
                    self.publish();
                }
                Command::LinksChanged => self.publish(),
            }
        }
        while let Some((end, hop)) = self.core.poll_traced() {
            self.traces.answer(end, hop);
        }
        while let Some(ended) = self.core.poll_ended() {
            self.chronicle.ended(ended, now);
        }
    }

    fn offer(
        &mut self,
        end: EndId,
        circuit: CircuitId,
        offer: nightgate_fabric::Offer,
        now: Instant,
    ) {
        let Some(offers) = self.bindings.get(&offer.terminator) else {
            let detail = "the host has gone";
            let refusal = DialRefusal::new(FailureCause::InvalidTerminator, detail);
            self.core.refuse(end, &refusal, now);
            return;
        };
        self.ends.insert(end, EndClient::Offered(circuit));
        let offers = offers.clone();
        let lane = self.core.lane_of(end);
        let incoming = Incoming::new((end, lane), offer, self.events.clone());
        self.proofs.check(circuit, incoming, move |incoming| {
            // A binding that was dropped drops the offer, which refuses it.
            drop(offers.send(incoming));
        });
    }

    fn opened(&mut self, (end, circuit): (EndId, CircuitId), peer: KeyShare, now: Instant) {
        let Some(EndClient::Dialing(reply, since)) = self.ends.remove(&end) else { return };
        if let Some(info) = self.core.circuit(end) {
            let took = now.saturating_duration_since(since);
            self.chronicle.opened((end, info), took, now);
        }
        let (circuit, io) = Circuit::new((end, circuit), peer, self.events.clone());
        let circuit = Circuit { sticky: self.core.sticky_terminator(end), ..circuit };
        self.ends.insert(end, EndClient::Open(io));
        // A dialer that no longer waits drops the circuit, which closes it.
        drop(reply.send(Ok(circuit)));
    }

    fn status(&self) -> Status {
        let link = |info: LinkInfo| {
            let load = self.links.get(&info.link).map(Outbox::load);
            LinkStatus::new(info, load)
        };
        Status {
            links: self.core.links().into_iter().map(link).collect(),
            circuits: self.core.circuits(),
            terminators: self.core.terminators(),
            memory: self.core.memory(),
        }
    }

    fn publish(&self) {
        self.report.send_replace(Report {
            links: self.core.link_reports(),
            terminators: self.core.terminators(),
        });
    }
}

/// 244 random bits of the system.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    for half in seed.chunks_exact_mut(16) {
        half.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    }
    seed
}
