//! Events: what happens in the overlay, one JSON object on each line. `docs/events.md` is made of these types.

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    action::Action,
    entity::Permission,
    id::{ApiSessionId, IdentityId, RouterId, ServiceId, TerminatorId},
    kind::EntityKind,
};

/// Version of the schema. A release that only adds fields, kinds or words keeps it.
pub const VERSION: u32 = 1;

/// One event.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Event {
    /// Version of this schema. It grows when a field goes or means something else.
    pub version: u32,
    /// Counts the events of the controller since its start, from 1; a `gap` has the number of the event after it.
    pub number: u64,
    /// When it happened, RFC 3339 in UTC.
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub what: Occurrence,
}

/// What an event is about.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Occurrence {
    /// The controller itself.
    Controller(ControllerEvent),
    /// A change of the model, as in the audit log.
    Entity(Box<EntityEvent>),
    /// A client began or ended a session at the controller.
    Session(Box<SessionEvent>),
    /// A router connected to the controller, or its connection ended.
    Router(RouterEvent),
    /// A link between two routers, as the router at one end tells of it.
    Link(LinkEvent),
    /// A place where a service is hosted.
    Terminator(TerminatorEvent),
    /// A circuit, as the router of its dialer tells of it. When that router is lost, the host's tells that the circuit
    /// is over; should the dialer's come back after all, it tells so once more.
    Circuit(Box<CircuitEvent>),
    /// Events that are missing here, because their reader was too slow or a router kept too many.
    Gap(GapEvent),
}

/// The controller itself.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ControllerEvent {
    /// What happened.
    pub event: ControllerChange,
    /// Its release.
    pub release: String,
}

/// What happened to the controller.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControllerChange {
    /// It runs; `number` begins anew.
    Started,
    /// It was asked to stop.
    Stopped,
}

/// A change of the model, as in the audit log.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntityEvent {
    /// What was done.
    pub event: Action,
    /// Kind of the entity.
    pub kind: EntityKind,
    /// Its id.
    pub entity_id: String,
    /// Its name.
    pub name: String,
    /// Id of the identity or router that did it; empty for the controller itself.
    pub author_id: String,
    /// Name of whoever did it.
    pub author: String,
    /// The entity before; null if it was created.
    pub before: Option<Value>,
    /// The entity after; null if it was deleted.
    pub after: Option<Value>,
}

/// A session of a client at the controller.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionEvent {
    /// What happened.
    pub event: SessionChange,
    /// The API session.
    pub api_session_id: ApiSessionId,
    /// Id of its identity.
    pub identity_id: IdentityId,
    /// Name of its identity.
    pub identity: String,
    /// Id of the service session; null for the API session itself.
    pub session_id: Option<String>,
    /// Id of the service that the service session is for.
    pub service_id: Option<ServiceId>,
    /// Name of that service.
    pub service: Option<String>,
    /// What the service session is for.
    pub permission: Option<Permission>,
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionChange {
    /// It began.
    Created,
    /// It was ended before its time: by its owner, by an operator, or because its identity may not have it any longer.
    Ended,
    /// Its time was over; noticed when the next session begins.
    Expired,
}

/// A router at the controller.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterEvent {
    /// What happened.
    pub event: RouterChange,
    /// Id of the router.
    pub router_id: RouterId,
    /// Name of the router.
    pub router: String,
    /// Where it accepts clients and links; null if it only dials out.
    pub address: Option<String>,
    /// Why the connection ended; null while it stands.
    pub reason: Option<String>,
}

/// What happened to the connection of a router.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouterChange {
    /// It stands.
    Connected,
    /// It ended; circuits go on.
    Disconnected,
}

/// A link, from the router that tells of it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkEvent {
    /// What happened.
    pub event: LinkChange,
    /// Id of the router that tells of it.
    pub from_id: RouterId,
    /// Name of that router.
    pub from: String,
    /// Id of its neighbour.
    pub to_id: RouterId,
    /// Name of its neighbour.
    pub to: String,
    /// Cost of the link.
    pub cost: u32,
}

/// What happened to a link.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkChange {
    /// It stands, or the router that tells of it has connected to the controller.
    Up,
    /// It was lost, or nobody tells of it any more.
    Down,
}

/// A place where a service is hosted.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminatorEvent {
    /// What happened.
    pub event: TerminatorChange,
    /// Id of the terminator.
    pub terminator_id: TerminatorId,
    /// Id of the service.
    pub service_id: ServiceId,
    /// Name of the service.
    pub service: String,
    /// Id of the router that the host is connected to.
    pub router_id: RouterId,
    /// Name of that router.
    pub router: String,
    /// Id of the hosting identity.
    pub host_id: IdentityId,
    /// Name of the hosting identity.
    pub host: String,
    /// Instance name; empty if it has none.
    pub instance: String,
}

/// What happened to a terminator.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TerminatorChange {
    /// The service is hosted there, or the router that tells of it has connected to the controller.
    Added,
    /// Its precedence or cost changed.
    Changed,
    /// It is hosted there no longer, or nobody tells of it any more.
    Removed,
}

/// A circuit, as the router of its dialer tells of it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitEvent {
    /// What happened.
    pub event: CircuitChange,
    /// Id of the router that tells of it.
    pub told_by_id: RouterId,
    /// Name of the router that tells of it.
    pub told_by: String,
    /// Id of the circuit, the same at every router; null if it never was one.
    pub circuit_id: Option<String>,
    /// Id of the service.
    pub service_id: ServiceId,
    /// Name of the service.
    pub service: String,
    /// Id of the dialing identity.
    pub dialer_id: IdentityId,
    /// Name of the dialing identity.
    pub dialer: String,
    /// Id of the hosting identity; null if the dial failed.
    pub host_id: Option<IdentityId>,
    /// Name of the hosting identity; null if the dial failed.
    pub host: Option<String>,
    /// Ids of the routers on its way, the dialer's first; the last way if it has ended.
    pub path_ids: Vec<RouterId>,
    /// Names of these routers.
    pub path: Vec<String>,
    /// Why it failed or was closed, a word of the closed list of causes; null otherwise.
    pub cause: Option<String>,
    /// Bytes that the dialer's end has sent.
    pub sent: u64,
    /// Bytes that the dialer's end has received.
    pub received: u64,
    /// How often it has changed its way.
    pub moves: u32,
    /// Milliseconds that the dial took (`opened`, `failed`), or that the circuit stood (`moved`, `closed`).
    pub milliseconds: u64,
}

/// What happened to a circuit.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CircuitChange {
    /// The dial succeeded.
    Opened,
    /// The dial failed.
    Failed,
    /// It takes another way.
    Moved,
    /// It is over.
    Closed,
}

/// Events that are missing.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GapEvent {
    /// How many are missing here.
    pub lost: u64,
    /// Id of the router that kept too many while the controller was away; null if whoever reads this was too slow.
    pub router_id: Option<RouterId>,
}

impl Occurrence {
    /// The words of `type`.
    pub const TYPES: [&str; 8] =
        ["controller", "entity", "session", "router", "link", "terminator", "circuit", "gap"];

    /// The word of `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Controller(_) => "controller",
            Self::Entity(_) => "entity",
            Self::Session(_) => "session",
            Self::Router(_) => "router",
            Self::Link(_) => "link",
            Self::Terminator(_) => "terminator",
            Self::Circuit(_) => "circuit",
            Self::Gap(_) => "gap",
        }
    }
}

/// The JSON schema of [`Event`].
pub fn schema() -> Schema {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Event>()
}
