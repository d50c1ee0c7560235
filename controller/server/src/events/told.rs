//! Gives names to what routers tell.

use nightgate_model::{
    activity::CircuitNote,
    entity::Terminator,
    event::{
        CircuitEvent, LinkChange, LinkEvent, Occurrence, RouterChange, RouterEvent,
        TerminatorChange, TerminatorEvent,
    },
    id::{IdentityId, RouterId, ServiceId},
    replica::LinkReport,
};
use nightgate_store::Model;

/// What changed among the routers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// The connection of a router.
    Router {
        change: RouterChange,
        router: RouterId,
        address: Option<String>,
        reason: Option<String>,
    },
    /// A link.
    Link(LinkChange, LinkReport),
    /// A place where a service is hosted.
    Terminator(TerminatorChange, Terminator),
    /// A circuit, as a router tells.
    Circuit(RouterId, Box<CircuitNote>),
}

/// The event about it. What the model does not know has its id as its name.
pub(crate) fn occurrence(model: &Model, told: Told) -> Occurrence {
    match told {
        Told::Router { change, router, address, reason } => Occurrence::Router(RouterEvent {
            event: change,
            router: router_name(model, &router),
            router_id: router,
            address,
            reason,
        }),
        Told::Link(change, link) => Occurrence::Link(LinkEvent {
            event: change,
            from: router_name(model, &link.from),
            from_id: link.from,
            to: router_name(model, &link.to),
            to_id: link.to,
            cost: link.cost,
        }),
        Told::Terminator(change, it) => Occurrence::Terminator(TerminatorEvent {
            event: change,
            terminator_id: it.id,
            service: service_name(model, &it.service),
            service_id: it.service,
            router: router_name(model, &it.router),
            router_id: it.router,
            host: identity_name(model, &it.host),
            host_id: it.host,
            instance: it.instance,
        }),
        Told::Circuit(router, note) => Occurrence::Circuit(Box::new(circuit(model, router, *note))),
    }
}

fn circuit(model: &Model, told_by: RouterId, note: CircuitNote) -> CircuitEvent {
    CircuitEvent {
        event: note.change,
        told_by: router_name(model, &told_by),
        told_by_id: told_by,
        circuit_id: note.circuit,
        service: service_name(model, &note.service),
        service_id: note.service,
        dialer: identity_name(model, &note.dialer),
        dialer_id: note.dialer,
        host: note.host.as_ref().map(|host| identity_name(model, host)),
        host_id: note.host,
        path: note.path.iter().map(|router| router_name(model, router)).collect(),
        path_ids: note.path,
        cause: note.cause,
        sent: note.sent,
        received: note.received,
        moves: note.moves,
        milliseconds: note.milliseconds,
    }
}

/// The name of a router.
pub(crate) fn router_name(model: &Model, id: &RouterId) -> String {
    model.routers.get(id).map_or_else(|| id.to_string(), |it| it.entity.name.clone())
}

/// The name of a service.
pub(crate) fn service_name(model: &Model, id: &ServiceId) -> String {
    model.services.get(id).map_or_else(|| id.to_string(), |it| it.entity.name.clone())
}

/// The name of an identity.
pub(crate) fn identity_name(model: &Model, id: &IdentityId) -> String {
    model.identities.get(id).map_or_else(|| id.to_string(), |it| it.entity.name.clone())
}
