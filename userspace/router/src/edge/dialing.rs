//! A client dials.

use nightgate_model::{entity::Permission, id::TerminatorId};
use nightgate_wire::{
    Headers,
    channel::Message,
    edge::{content, header},
};

use super::{client::Client, connection::state_closed};
use crate::{Circuit, DialRequest, KeyShare, token::check_session};

/// The reason that makes OpenZiti's SDKs ask for a new session and dial again.
pub(super) const INVALID_SESSION: &str = "Invalid Session";

/// Why a connection or binding could not be numbered.
pub(super) const TOO_MANY: &str = "the connection id is taken, or too many are open";

/// Answers a Connect message in a task of its own.
pub(super) fn connect(client: &Client, conn: u32, message: Message) {
    let client = client.clone();
    client.router.clone().spawn(async move {
        let request = message.sequence;
        let Some(reservation) = client.connections.reserve(conn) else {
            client.send(state_closed(conn, TOO_MANY).in_reply_to(request)).await;
            return;
        };
        match dial(&client, message).await {
            Ok(circuit) => {
                // Answered before the first data can follow.
                client.send(connected(conn, &circuit).in_reply_to(request)).await;
                reservation.join(&client, circuit);
            }
            Err(reason) => client.send(state_closed(conn, &reason).in_reply_to(request)).await,
        }
    });
}

async fn dial(client: &Client, message: Message) -> Result<Circuit, String> {
    let mut replica = client.router.replica();
    let session = check_session(&message.body, Permission::Dial, &client.session, &mut replica)
        .await
        .map_err(|_invalid| INVALID_SESSION.to_owned())?;
    let headers = &message.headers;
    let request = DialRequest {
        service: session.sub,
        identity: session.identity,
        instance: headers.text(header::TERMINATOR_IDENTITY).unwrap_or_default().to_owned(),
        caller: headers.text(header::CALLER_ID).unwrap_or(&client.name).to_owned(),
        key_share: key_share(headers),
        app_data: headers.bytes(header::APP_DATA).cloned().unwrap_or_default(),
        session: message.body.clone(),
        sticky: headers.text(header::STICKINESS_TOKEN).map(TerminatorId::new),
    };
    client.router.dial(request).await.map_err(|refusal| refusal.to_string())
}

fn connected(conn: u32, circuit: &Circuit) -> Message {
    let mut answer = Message::new(content::STATE_CONNECTED);
    answer.headers.put_u32(header::CONN_ID, conn);
    answer.headers.put_text(header::CIRCUIT_ID, &circuit.id.to_string());
    if let Some(terminator) = &circuit.sticky {
        answer.headers.put_text(header::STICKINESS_TOKEN, terminator.as_str());
    }
    put_key_share(&mut answer.headers, &circuit.peer);
    answer
}

/// Reads what a client sends for the agreement on keys.
pub(super) fn key_share(headers: &Headers) -> KeyShare {
    let bytes = |key| headers.bytes(key).cloned().unwrap_or_default();
    KeyShare {
        public_key: bytes(header::PUBLIC_KEY),
        handshake: bytes(header::HANDSHAKE),
        early_data: bytes(header::EARLY_DATA),
    }
}

/// Writes what the other end sent for the agreement on keys.
pub(super) fn put_key_share(headers: &mut Headers, share: &KeyShare) {
    let parts = [
        (header::PUBLIC_KEY, &share.public_key),
        (header::HANDSHAKE, &share.handshake),
        (header::EARLY_DATA, &share.early_data),
    ];
    for (key, part) in parts {
        if !part.is_empty() {
            headers.put(key, part.clone());
        }
    }
}
