//! A client asks who is on the way of a connection.

use nightgate_wire::{
    channel::Message,
    edge::{content, header},
};

use super::client::Client;

/// What the routers at the two ends are on the way, in OpenZiti's words.
const EDGE: &str = "xgress/edge";

/// What the routers between them are.
const FORWARDER: &str = "forwarder";

/// Why a trace that asks for more hops ends here.
const NO_CIRCUIT: &str = "the connection has no circuit here";

/// Why a hop is not known.
const NO_ANSWER: &str = "no answer from there";

/// Answers a TraceRoute message: this router is the first hop, and asks the others along the circuit's path.
pub(super) async fn answer(client: &Client, conn: u32, question: Message) {
    let hops = question.headers.u32(header::TRACE_HOP_COUNT).unwrap_or_default();
    let end = client.connections.end(conn).filter(|_| hops > 1);
    let Some(end) = end else {
        let left = hops.saturating_sub(1);
        let mut own = message(&question, conn, (client.router.id().as_str(), EDGE, left));
        if left > 0 {
            own.headers.put_text(header::TRACE_ERROR, NO_CIRCUIT);
        }
        return client.send(own).await;
    };
    let client = client.clone();
    client.router.clone().spawn(async move {
        let answer = match client.router.trace(end, hops - 1).await {
            Some(hop) => {
                let kind = if hop.is_last { EDGE } else { FORWARDER };
                message(&question, conn, (hop.router.as_str(), kind, hop.left))
            }
            None => {
                let mut none = message(&question, conn, ("", FORWARDER, 0));
                none.headers.put_text(header::TRACE_ERROR, NO_ANSWER);
                none
            }
        };
        client.send(answer).await;
    });
}

fn message(question: &Message, conn: u32, (router, kind, left): (&str, &str, u32)) -> Message {
    let mut answer = Message::new(content::TRACE_ROUTE_RESPONSE).in_reply_to(question.sequence);
    let headers = &mut answer.headers;
    headers
        .put_u32(header::CONN_ID, conn)
        .put_u32(header::TRACE_HOP_COUNT, left)
        .put_text(header::TRACE_HOP_TYPE, kind)
        .put_text(header::TRACE_HOP_ID, router);
    for reflected in [header::TIMESTAMP, header::UUID] {
        if let Some(value) = question.headers.bytes(reflected) {
            headers.put(reflected, value.clone());
        }
    }
    answer
}
