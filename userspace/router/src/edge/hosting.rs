//! A client hosts.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use nightgate_fabric::FailureCause;
use nightgate_model::{
    entity::{Permission, Precedence, Terminator},
    id::{IdentityId, TerminatorId},
    terminator::{MAX_INSTANCE, MAX_SECRET, seal},
    token::SessionClaims,
};
use nightgate_wire::{
    Headers,
    channel::Message,
    edge::{ROUTER_CONN_IDS, content, header, precedence},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::{debug, info};

use super::{
    client::Client,
    connection::{Reservation, state_closed},
    dialing::{INVALID_SESSION, TOO_MANY, key_share, put_key_share},
};
use crate::{BindRequest, Binding, Incoming, token::check_session};

/// A host that does not answer a dial by then has refused it; the dialer waits as long.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Messages about one binding that may wait to be looked at; more are lost.
const CHANGES: usize = 16;

/// Services one client may host at once on one channel.
const MAX_BINDINGS: usize = 1_000;

/// Why a binding is refused or ends.
const NOT_ALLOWED: &str = "no policy lets this identity host the service";

/// A client's bindings by connection id; all end with the channel.
#[derive(Default)]
pub(super) struct Bindings(HashMap<u32, Bound>);

struct Bound {
    task: JoinHandle<()>,
    changes: mpsc::Sender<Message>,
}

/// What a host said of itself when it began to host.
struct Host {
    /// The binding's connection id.
    bind: u32,
    ids: ConnIds,
    /// Its public key; clients of 2022 name it here and not with each dial they accept.
    public_key: Bytes,
}

/// How connection ids of accepted dials are chosen.
#[derive(Clone, Copy)]
enum ConnIds {
    /// The router chooses (clients since 2023).
    Router,
    /// The host chooses, and waits for a confirmation.
    Host,
}

impl Bindings {
    /// Answers a Bind message and passes dials on, in a task of its own.
    pub(super) fn bind(&mut self, client: &Client, conn: u32, message: Message) {
        self.0.retain(|_, bound| !bound.task.is_finished());
        if self.0.contains_key(&conn) || self.0.len() >= MAX_BINDINGS {
            let refused = state_closed(conn, TOO_MANY);
            let (client, refused) = (client.clone(), refused.in_reply_to(message.sequence));
            client.router.clone().spawn(async move { client.send(refused).await });
            return;
        }
        let (changes, to_make) = mpsc::channel(CHANGES);
        let task = tokio::spawn(host(client.clone(), conn, message, to_make));
        self.0.insert(conn, Bound { task, changes });
    }

    /// Passes on what a host says of a binding later. Unknown ids are ignored, as OpenZiti's routers do.
    pub(super) fn change(&self, conn: u32, message: Message) {
        let passed = self.0.get(&conn).map(|bound| bound.changes.try_send(message));
        if !matches!(passed, Some(Ok(()))) {
            debug!(connection = conn, "message about a binding ignored");
        }
    }

    /// Ends a binding; unknown ids are ignored.
    pub(super) fn unbind(&mut self, conn: u32) {
        if let Some(bound) = self.0.remove(&conn) {
            bound.task.abort();
        }
    }
}

impl Drop for Bindings {
    fn drop(&mut self) {
        for bound in self.0.values() {
            bound.task.abort();
        }
    }
}

async fn host(client: Client, conn: u32, message: Message, mut changes: mpsc::Receiver<Message>) {
    let ids = match message.headers.is_true(header::ROUTER_PROVIDED_CONN_ID) {
        true => ConnIds::Router,
        false => ConnIds::Host,
    };
    let mut binding = match authorize(&client, &message).await {
        Ok(binding) => binding,
        Err(reason) => {
            client.send(state_closed(conn, &reason).in_reply_to(message.sequence)).await;
            return;
        }
    };
    let mut answer = Message::new(content::STATE_CONNECTED).in_reply_to(message.sequence);
    answer.headers.put_u32(header::CONN_ID, conn);
    if matches!(ids, ConnIds::Router) {
        answer.headers.put_true(header::ROUTER_PROVIDED_CONN_ID);
    }
    client.send(answer).await;
    let public_key = message.headers.bytes(header::PUBLIC_KEY).cloned().unwrap_or_default();
    let host = Arc::new(Host { bind: conn, ids, public_key });
    let mut next = ROUTER_CONN_IDS;
    let mut wants_word = message.headers.is_true(header::SUPPORTS_BIND_SUCCESS);
    let mut known = pin!(known_to_controller(&client, binding.terminator().id.clone()));
    loop {
        let incoming = tokio::select! {
            incoming = binding.accept() => incoming,
            Some(message) = changes.recv() => {
                change(&client, conn, &mut binding, &message).await;
                continue;
            }
            () = &mut known, if wants_word => {
                wants_word = false;
                let mut word = Message::new(content::BIND_SUCCESS);
                word.headers.put_u32(header::CONN_ID, conn);
                client.send(word).await;
                continue;
            }
        };
        let Some(incoming) = incoming else { break };
        match reserve(&client, &mut next) {
            Some(offered) => {
                let host = Arc::clone(&host);
                client.router.spawn(offer(client.clone(), host, offered, incoming));
            }
            None => incoming.refuse(FailureCause::Capacity, "the host has too many connections"),
        }
    }
    if !client.router.is_stopping() {
        client.send(state_closed(conn, NOT_ALLOWED)).await;
    }
}

/// Waits until the controller has told of the terminator.
async fn known_to_controller(client: &Client, id: TerminatorId) {
    let mut replica = client.router.replica();
    let known = replica.wait_for(|replica| replica.terminators.iter().any(|it| it.id == id));
    drop(known.await);
}

/// Makes a change that a host wants; the session token says that it is the host.
async fn change(client: &Client, conn: u32, binding: &mut Binding, message: &Message) {
    let mut replica = client.router.replica();
    let session = check_session(&message.body, Permission::Bind, &client.session, &mut replica);
    let Terminator { service, precedence: preferred, cost, .. } = binding.terminator().clone();
    if !session.await.is_ok_and(|session| session.sub == service) {
        client.send(state_closed(conn, INVALID_SESSION).in_reply_to(message.sequence)).await;
        return;
    }
    let headers = &message.headers;
    if message.content_type == content::UPDATE_BIND {
        let preferred =
            headers.bytes(header::PRECEDENCE).map_or(preferred, |_| precedence(headers));
        binding.update(preferred, cost_of(headers).unwrap_or(cost));
    } else {
        let passed = headers.is_true(header::HEALTH_STATUS);
        info!(identity = &*client.name, service = %service, passed, "a host checked its server");
        client.router.health.count(service, passed);
    }
}

async fn authorize(client: &Client, message: &Message) -> Result<Binding, String> {
    let mut replica = client.router.replica();
    let session = check_session(&message.body, Permission::Bind, &client.session, &mut replica)
        .await
        .map_err(|_invalid| INVALID_SESSION.to_owned())?;
    let allowed = {
        let known = &replica.borrow().authorizations;
        known.allows(&session.identity, Permission::Bind, &session.sub)
            && known.reaches(&session.identity, &session.sub, client.router.id())
    };
    if !allowed {
        return Err(NOT_ALLOWED.to_owned());
    }
    let request = bind_request(&message.headers, session)?;
    client.router.bind(request).map_err(|taken| taken.to_string())
}

/// What a host asks for.
fn bind_request(headers: &Headers, session: SessionClaims) -> Result<BindRequest, String> {
    let instance = headers.text(header::TERMINATOR_IDENTITY).unwrap_or_default();
    let secret = headers.bytes(header::TERMINATOR_IDENTITY_SECRET).map_or(&[][..], AsRef::as_ref);
    for (what, length, limit) in [
        ("instance name", instance.len(), MAX_INSTANCE),
        ("secret of the instance", secret.len(), MAX_SECRET),
    ] {
        if length > limit {
            return Err(format!("the {what} has {length} bytes, limit {limit}"));
        }
    }
    Ok(BindRequest {
        secret: seal(&session.sub, instance, secret),
        service: session.sub,
        identity: session.identity,
        instance: instance.to_owned(),
        precedence: precedence(headers),
        cost: cost_of(headers).unwrap_or_default(),
    })
}

fn cost_of(headers: &Headers) -> Option<u16> {
    let cost = headers.bytes(header::COST)?.as_ref().try_into().ok()?;
    Some(u16::from_le_bytes(cost))
}

fn precedence(headers: &Headers) -> Precedence {
    match headers.bytes(header::PRECEDENCE).map(AsRef::as_ref) {
        Some([precedence::REQUIRED]) => Precedence::Required,
        Some([precedence::FAILED]) => Precedence::Failed,
        _ => Precedence::Default,
    }
}

/// Reserves an id that no open connection of this channel has.
fn reserve(client: &Client, next: &mut u32) -> Option<Reservation> {
    // Ids repeat only after two thousand million dials: a few tries find a free one.
    (0..16).find_map(|_try| {
        let id = *next;
        *next = next.checked_add(1).unwrap_or(ROUTER_CONN_IDS);
        client.connections.reserve(id)
    })
}

/// Asks the host whether it takes a dial, and joins the two if it does.
async fn offer(client: Client, host: Arc<Host>, offered: Reservation, incoming: Incoming) {
    let request = client.request(dial_message(&client, &host, offered.conn(), &incoming));
    let Ok(Some(answer)) = tokio::time::timeout(ANSWER_TIME, request).await else {
        incoming.refuse(FailureCause::DialTimeout, "the hosting application did not answer");
        return;
    };
    if answer.content_type != content::DIAL_SUCCESS {
        let (cause, reason) = refusal(&answer.body);
        incoming.refuse(cause, &reason);
        return;
    }
    let reservation = match host.ids {
        ConnIds::Router => Some(offered),
        ConnIds::Host => chosen_by_host(&client, &answer),
    };
    let Some(reservation) = reservation else {
        incoming.refuse(FailureCause::Protocol, "the host chose no free connection id");
        return;
    };
    let mut share = key_share(&answer.headers);
    if share.public_key.is_empty() {
        share.public_key = host.public_key.clone();
    }
    let Ok(circuit) = incoming.accept(share).await else {
        client.send(state_closed(reservation.conn(), "the dialer has gone")).await;
        return;
    };
    if matches!(host.ids, ConnIds::Host) {
        let mut confirm = Message::new(content::STATE_CONNECTED).in_reply_to(answer.sequence);
        confirm.headers.put_u32(header::CONN_ID, host.bind);
        client.send(confirm).await;
    }
    reservation.join(&client, circuit);
}

/// Why a host has refused. Ours begin with the cause; of these count those that a host can know.
fn refusal(body: &[u8]) -> (FailureCause, String) {
    let words = String::from_utf8_lossy(body);
    let known = FailureCause::of_words(&words).filter(|cause| {
        matches!(
            cause,
            FailureCause::HostRefused
                | FailureCause::ConnectionRefused
                | FailureCause::HostUnreachable
                | FailureCause::ConnectTimeout
                | FailureCause::Capacity
                | FailureCause::Encryption
        )
    });
    match known.and_then(|cause| Some((cause, words.split_once(": ")?.1))) {
        Some((cause, reason)) => (cause, reason.to_owned()),
        None => (FailureCause::HostRefused, words.into_owned()),
    }
}

fn chosen_by_host(client: &Client, answer: &Message) -> Option<Reservation> {
    let chosen = <[u8; 4]>::try_from(answer.body.as_ref()).ok()?;
    client.connections.reserve(u32::from_le_bytes(chosen))
}

fn dial_message(client: &Client, host: &Host, offered: u32, incoming: &Incoming) -> Message {
    let mut message = Message::new(content::DIAL);
    let headers = &mut message.headers;
    headers.put_u32(header::CONN_ID, host.bind);
    if matches!(host.ids, ConnIds::Router) {
        headers.put_u32(header::ROUTER_PROVIDED_CONN_ID, offered);
    }
    headers
        .put_text(header::CALLER_ID, incoming.caller())
        .put_text(header::DIALER_IDENTITY_ID, incoming.dialer().as_str())
        .put_text(header::DIALER_IDENTITY_NAME, &name_of(client, incoming.dialer()));
    put_key_share(headers, incoming.key_share());
    if !incoming.app_data().is_empty() {
        headers.put(header::APP_DATA, incoming.app_data().clone());
    }
    message
}

fn name_of(client: &Client, identity: &IdentityId) -> String {
    let replica = client.router.replica.borrow();
    replica.identities.get(identity).map_or_else(String::new, |known| known.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_says_why_it_refuses_but_not_what_only_routers_know() {
        for (words, cause, reason) in [
            (
                "connection-refused: connect to [::1]:80",
                FailureCause::ConnectionRefused,
                "connect to [::1]:80",
            ),
            ("unauthorized: not you", FailureCause::HostRefused, "unauthorized: not you"),
            ("busy: try later", FailureCause::HostRefused, "busy: try later"),
            ("", FailureCause::HostRefused, ""),
        ] {
            assert_eq!(refusal(words.as_bytes()), (cause, reason.to_owned()), "{words}");
        }
    }
}
