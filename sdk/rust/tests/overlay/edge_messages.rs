//! Messages of the edge protocol that SDKs of OpenZiti send beside dialing and hosting.

use nightgate_model::entity::{Precedence, Terminator};
use nightgate_wire::{
    channel::{self, Message},
    edge::{ALPN, content, header, precedence},
};

use crate::{
    hostile::{Peer, Wire, request},
    support::Overlay,
};

/// A host that speaks by hand, its channel, and the token of its session.
async fn host(overlay: &Overlay) -> (Wire, String) {
    overlay.operator.create_service("desk", true).await;
    let peer = Peer::join(overlay, "host", &["desk-host"]).await;
    let session = peer.session("desk", "Bind").await;
    let mut wire = Wire::open(overlay, peer.tls(ALPN)).await.unwrap();
    assert!(wire.hello(&peer.token).await);
    (wire, session)
}

async fn terminator(overlay: &Overlay, expected: impl Fn(&Terminator) -> bool) {
    let mut replica = overlay.router.replica();
    replica.wait_for(|replica| replica.terminators.iter().any(&expected)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_hears_when_the_controller_knows_of_it() {
    let overlay = Overlay::start().await;
    let (mut wire, session) = host(&overlay).await;
    let mut bind = request(content::BIND, &session);
    bind.headers.put_true(header::SUPPORTS_BIND_SUCCESS);

    wire.send(&bind).await;

    assert_eq!(wire.next().await.unwrap().content_type, content::STATE_CONNECTED);
    let word = wire.next().await.unwrap();
    assert_eq!(word.content_type, content::BIND_SUCCESS);
    assert_eq!(word.headers.u32(header::CONN_ID), Some(1));
    terminator(&overlay, |_| true).await;
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_changes_cost_and_precedence_each_alone_while_it_hosts() {
    let overlay = Overlay::start().await;
    let (mut wire, session) = host(&overlay).await;
    wire.send(&request(content::BIND, &session)).await;
    assert_eq!(wire.next().await.unwrap().content_type, content::STATE_CONNECTED);
    terminator(&overlay, |it| (it.precedence, it.cost) == (Precedence::Default, 0)).await;

    let mut update = request(content::UPDATE_BIND, &session);
    update.headers.put(header::COST, 7_u16.to_le_bytes().to_vec());
    wire.send(&update).await;
    terminator(&overlay, |it| (it.precedence, it.cost) == (Precedence::Default, 7)).await;

    let mut update = request(content::UPDATE_BIND, &session);
    update.headers.put(header::PRECEDENCE, vec![precedence::FAILED]);
    wire.send(&update).await;
    terminator(&overlay, |it| (it.precedence, it.cost) == (Precedence::Failed, 7)).await;

    // Neither is answered, as with OpenZiti, but what has no right to it is.
    let mut check = request(content::HEALTH_EVENT, &session);
    check.headers.put_true(header::HEALTH_STATUS);
    wire.send(&check).await;
    check.headers.put(header::HEALTH_STATUS, vec![0]);
    wire.send(&check).await;
    let mut stolen = request(content::UPDATE_BIND, "no token");
    stolen.sequence = 77;
    wire.send(&stolen).await;
    let refused = wire.next().await.unwrap();
    assert_eq!((refused.content_type, refused.reply_for()), (content::STATE_CLOSED, Some(77)));
    assert_eq!(refused.body, "Invalid Session");
    let metrics = overlay.router.metrics().await.unwrap();
    for outcome in ["passed", "failed"] {
        let line =
            format!("nightgate_health_events_total{{outcome=\"{outcome}\",service=\"desk\"}} 1");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    terminator(&overlay, |it| (it.precedence, it.cost) == (Precedence::Failed, 7)).await;
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_about_no_binding_change_nothing() {
    let overlay = Overlay::start().await;
    let (mut wire, session) = host(&overlay).await;

    for content in [content::UPDATE_BIND, content::HEALTH_EVENT, content::BIND_SUCCESS] {
        wire.send(&request(content, &session)).await;
    }

    wire.send(&Message::new(channel::content::LATENCY)).await;
    assert_eq!(wire.next().await.unwrap().content_type, channel::content::RESULT);
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_answered_by_the_first_router() {
    let overlay = Overlay::start().await;
    let (mut wire, _) = host(&overlay).await;
    for (asked, left) in [(0, 0), (1, 0), (3, 2)] {
        let mut trace = Message::new(content::TRACE_ROUTE);
        trace.sequence = 5;
        trace.headers.put_u32(header::CONN_ID, 9).put_u32(header::TRACE_HOP_COUNT, asked);
        trace.headers.put(header::TIMESTAMP, vec![1, 2, 3, 4, 5, 6, 7, 8]);

        wire.send(&trace).await;

        let answer = wire.next().await.unwrap();
        assert_eq!(answer.content_type, content::TRACE_ROUTE_RESPONSE);
        assert_eq!((answer.reply_for(), answer.headers.u32(header::CONN_ID)), (Some(5), Some(9)));
        assert_eq!(answer.headers.u32(header::TRACE_HOP_COUNT), Some(left));
        assert_eq!(answer.headers.text(header::TRACE_HOP_TYPE), Some("xgress/edge"));
        assert_eq!(
            answer.headers.bytes(header::TIMESTAMP).unwrap().as_ref(),
            [1, 2, 3, 4, 5, 6, 7, 8]
        );
        assert_eq!(answer.headers.bytes(header::TRACE_ERROR).is_some(), left > 0, "{asked}");
    }
    overlay.stop().await;
}
