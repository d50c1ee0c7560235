use super::*;
use nightgate_e2ee::KeyExchangeError;

use crate::scripted::{alice, channel, dial_echo, service};

#[tokio::test]
async fn refusal_carries_the_words_of_the_router() {
    let (channel, mut router) = channel().await;
    let (dialed, ()) = tokio::join!(dial_echo(&channel, true), async {
        let connect = router.recv().await;
        let refused = Message::new(content::STATE_CLOSED).with_body("no terminators");
        router.send(refused.in_reply_to(connect.sequence)).await;
    });

    let failure = dialed.unwrap_err();

    assert_eq!(failure.to_string(), "refused through router router:443: no terminators");
    drop(channel);
    assert!(router.is_left().await, "a refused circuit is not closed once more");
}

#[tokio::test]
async fn host_without_key_is_refused_when_encryption_is_required() {
    let (channel, mut router) = channel().await;
    let (dialed, ()) = tokio::join!(dial_echo(&channel, true), async {
        let connect = router.recv().await;
        router.send(Message::new(content::STATE_CONNECTED).in_reply_to(connect.sequence)).await;
    });

    assert!(matches!(dialed, Err(DialFailure::Agreement(AgreementError::NoKey))), "{dialed:?}");
    assert_eq!(router.recv().await.content_type, content::STATE_CLOSED);
}

#[tokio::test]
async fn weak_key_of_the_host_is_refused() {
    let (channel, mut router) = channel().await;
    let (dialed, ()) = tokio::join!(dial_echo(&channel, true), async {
        let connect = router.recv().await;
        let mut answer = Message::new(content::STATE_CONNECTED).in_reply_to(connect.sequence);
        answer.headers.put(header::PUBLIC_KEY, vec![0; 32]);
        router.send(answer).await;
    });

    assert!(
        matches!(
            dialed,
            Err(DialFailure::Agreement(AgreementError::KeyExchange(
                KeyExchangeError::WeakPublicKey
            )))
        ),
        "{dialed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn unanswered_dial_gives_up_and_tells_the_router() {
    let (channel, mut router) = channel().await;

    let (dialed, connect) = tokio::join!(dial_echo(&channel, false), router.recv());

    assert!(matches!(dialed, Err(DialFailure::Timeout { .. })), "{dialed:?}");
    let closed = router.recv().await;
    assert_eq!(closed.content_type, content::STATE_CLOSED);
    assert_eq!(closed.headers.u32(header::CONN_ID), connect.headers.u32(header::CONN_ID));
}

#[tokio::test]
async fn router_lost_while_dialing_is_told_apart_from_a_refusal() {
    let (channel, mut router) = channel().await;
    let (dialed, ()) = tokio::join!(dial_echo(&channel, false), async {
        router.recv().await;
        drop(router);
    });

    assert!(matches!(dialed, Err(DialFailure::ChannelLost { .. })), "{dialed:?}");
}

#[tokio::test]
async fn options_travel_with_the_dial() {
    let (channel, mut router) = channel().await;
    let options = DialOptions {
        app_data: Bytes::from_static(b"hint"),
        instance: Some("blue".into()),
        ..DialOptions::default()
    };
    let service = service(false);
    let dialing = dial(&channel, "session", &service, alice(), &options);

    let (dialed, connect) = tokio::join!(dialing, async {
        let connect = router.recv().await;
        let refused = Message::new(content::STATE_CLOSED).in_reply_to(connect.sequence);
        router.send(refused.with_body("Invalid Session")).await;
        connect
    });

    assert_eq!(connect.headers.bytes(header::APP_DATA).unwrap(), "hint");
    assert_eq!(connect.headers.text(header::TERMINATOR_IDENTITY), Some("blue"));
    assert_eq!(connect.headers.bytes(header::PUBLIC_KEY), None);
    assert!(dialed.unwrap_err().is_invalid_session());
}
