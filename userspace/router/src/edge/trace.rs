//! A client asks who is on the way of a connection.

use nightgate_wire::{
    channel::Message,
    edge::{content, header},
};

use super::client::Client;

/// What this router is on the way, in OpenZiti's words.
const HOP_TYPE: &str = "xgress/edge";

/// Why a trace that asks for more hops ends here.
const NO_FURTHER: &str = "traces end at the first router";

/// The answer to a TraceRoute message: this router is the first hop, and the last that is told of.
pub(super) fn answer(client: &Client, conn: u32, question: &Message) -> Message {
    let left = question.headers.u32(header::TRACE_HOP_COUNT).unwrap_or_default().saturating_sub(1);
    let mut answer = Message::new(content::TRACE_ROUTE_RESPONSE).in_reply_to(question.sequence);
    let headers = &mut answer.headers;
    headers
        .put_u32(header::CONN_ID, conn)
        .put_u32(header::TRACE_HOP_COUNT, left)
        .put_text(header::TRACE_HOP_TYPE, HOP_TYPE)
        .put_text(header::TRACE_HOP_ID, client.router.id().as_str());
    for reflected in [header::TIMESTAMP, header::UUID] {
        if let Some(value) = question.headers.bytes(reflected) {
            headers.put(reflected, value.clone());
        }
    }
    if left > 0 {
        headers.put_text(header::TRACE_ERROR, NO_FURTHER);
    }
    answer
}
