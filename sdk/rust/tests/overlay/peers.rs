//! What the ends of a circuit do not take their router's word for: who is at the other end, and that it cannot prove it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use nightgate_e2ee::{Binding, KeyPair, Own, Proposal, Protection};
use nightgate_identity::Credentials;
use nightgate_sdk::{BindOptions, DialFailure, DialOptions, EndToEnd};
use nightgate_wire::edge::{content, header};

use crate::{
    end_to_end::{Scene, without_handshake},
    path::Way,
    support::authenticate_as_other_client,
};

#[tokio::test(flavor = "multi_thread")]
async fn suppressing_the_handshake_is_noticed_by_default() {
    let mut scene = Scene::set(EndToEnd::Negotiated).await;
    scene.meddler.turn(|_, message| vec![without_handshake(message)]);

    // The host refuses first.
    let failure = scene.dialer.dial("desk").await.unwrap_err().failure;
    let told =
        matches!(&failure, DialFailure::Refused { reason, .. } if reason.contains("suppressed"));
    assert!(told, "{failure:?}");

    // Behind a host that wants OpenZiti's method, the dialer does.
    let options = BindOptions { end_to_end: EndToEnd::OpenZiti, ..BindOptions::default() };
    scene.listener = scene.host.bind_with("desk", options).await.unwrap();
    let mut failure = scene.dialer.dial("desk").await.unwrap_err().failure;
    // The binding before this one may still be being taken back.
    while matches!(failure, DialFailure::Refused { .. }) {
        failure = scene.dialer.dial("desk").await.unwrap_err().failure;
    }
    assert!(matches!(failure, DialFailure::Downgraded), "{failure:?}");

    // Where another client may be the host, it has to be believed.
    authenticate_as_other_client(&scene.identities[0]).await;
    scene.dialer.dial("desk").await.unwrap();
    scene.overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_a_router_leads_to_another_instance_is_refused() {
    let scene = Scene::set(EndToEnd::Negotiated).await;
    let mut listeners = Vec::new();
    for name in ["blue", "green"] {
        let options = BindOptions { instance: Some(name.into()), ..BindOptions::default() };
        listeners.push(scene.host.bind_with("desk", options).await.unwrap());
    }
    let blue = DialOptions { instance: Some("blue".into()), ..DialOptions::default() };
    scene.dialer.dial_with("desk", &blue).await.unwrap();

    scene.meddler.turn(|_, mut message| {
        if message.content_type == content::CONNECT {
            message.headers.put_text(header::TERMINATOR_IDENTITY, "green");
        }
        vec![message]
    });

    let failure = scene.dialer.dial_with("desk", &blue).await.unwrap_err().failure;
    let told =
        matches!(&failure, DialFailure::Refused { reason, .. } if reason.contains("handshake"));
    assert!(told, "{failure:?}");
    scene.overlay.stop().await;
}

/// A router that has an accomplice among the identities answers dials by its key.
#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_may_not_host_is_no_host() {
    let scene = Scene::set(EndToEnd::Negotiated).await;
    let service = service_of(&scene).await;
    let accomplice = scene.overlay.enroll("accomplice", &[]).await;
    let own = Own::from(Arc::new(Credentials::new(&accomplice).unwrap()));
    let keys = KeyPair::generate().unwrap();
    let offered = Arc::new(Mutex::new((Bytes::new(), Bytes::new())));
    scene.meddler.turn(move |way, mut message| {
        match (way, message.content_type) {
            (Way::ToRouter, content::CONNECT) => {
                let part = |key| message.headers.bytes(key).cloned().unwrap_or_default();
                *offered.lock().unwrap() = (part(header::PUBLIC_KEY), part(header::HANDSHAKE));
            }
            (Way::ToClient, content::STATE_CONNECTED)
                if message.headers.bytes(header::HANDSHAKE).is_some() =>
            {
                let (key, offer) = offered.lock().unwrap().clone();
                let binding = Binding { service: &service, instance: "", app_data: b"" };
                let (answer, _) =
                    Protection::answer(Some(&keys), Some(&own), binding, &key, &offer).unwrap();
                message.headers.put(header::HANDSHAKE, answer.handshake);
            }
            _ => {}
        }
        vec![message]
    });

    let failure = scene.dialer.dial("desk").await.unwrap_err().failure;

    let DialFailure::NotAHost { host } = &failure else { panic!("{failure:?}") };
    assert_eq!(host.fingerprint, fingerprint(&accomplice));
    scene.overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_may_not_dial_is_no_dialer() {
    let scene = Scene::set(EndToEnd::Negotiated).await;
    let service = service_of(&scene).await;
    let accomplice =
        Arc::new(Credentials::new(&scene.overlay.enroll("accomplice", &[]).await).unwrap());
    scene.meddler.turn(move |way, mut message| {
        if way == Way::ToClient && message.content_type == content::DIAL {
            let binding = Binding { service: &service, instance: "", app_data: b"" };
            let proposal = Proposal::new(Some(Arc::clone(&accomplice).into()), binding).unwrap();
            let share = proposal.share();
            message.headers.put(header::PUBLIC_KEY, share.public_key);
            message.headers.put(header::HANDSHAKE, share.handshake);
            // The router says what fits.
            message.headers.put_text(header::DIALER_IDENTITY_ID, "");
        }
        vec![message]
    });

    let failure = scene.dialer.dial("desk").await.unwrap_err().failure;

    let told =
        matches!(&failure, DialFailure::Refused { reason, .. } if reason.contains("may not"));
    assert!(told, "{failure:?}");
    scene.overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_taken_away_proves_nothing() {
    let scene = Scene::set(EndToEnd::Negotiated).await;
    let service = service_of(&scene).await;
    // Taken from the one who may dial, and still used.
    let old = Arc::new(Credentials::new(&scene.identities[1]).unwrap());
    let other = scene.overlay.join("other", &["desk-dial"]).await;
    scene.overlay.operator.revoke_certificate_of("dialer").await;
    scene.meddler.turn(move |way, mut message| {
        if way == Way::ToClient && message.content_type == content::DIAL {
            let binding = Binding { service: &service, instance: "", app_data: b"" };
            let share = Proposal::new(Some(Arc::clone(&old).into()), binding).unwrap().share();
            message.headers.put(header::PUBLIC_KEY, share.public_key);
            message.headers.put(header::HANDSHAKE, share.handshake);
            message.headers.put_text(header::DIALER_IDENTITY_ID, "");
        }
        vec![message]
    });

    let failure = other.dial("desk").await.unwrap_err().failure;

    let told =
        matches!(&failure, DialFailure::Refused { reason, .. } if reason.contains("may not"));
    assert!(told, "{failure:?}");
    scene.overlay.stop().await;
}

async fn service_of(scene: &Scene) -> String {
    scene.dialer.services().await.unwrap()[0].id.to_string()
}

fn fingerprint(identity: &nightgate_sdk::Identity) -> String {
    nightgate_identity::fingerprint(&identity.certificates().unwrap()[0])
}
