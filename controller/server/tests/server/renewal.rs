//! Routers' certificates that follow others.

use nightgate_model::{
    control::{ALPN, ControllerMessage, RouterMessage},
    id::{IdentityId, RouterId},
    replica::{Replica, ReplicaRouter},
};
use nightgate_pki::ForeignCertificate;
use serde_json::Value;

use crate::{
    channel::Channel,
    common::{Credentials, Lab, MANAGEMENT, request},
};

/// Asks for a certificate over the channel.
async fn renew(channel: &mut Channel) -> Credentials {
    let (key, request) = request();
    channel.send(&RouterMessage::Renew { request }).await;
    let answer = channel.answer().await;
    let ControllerMessage::Certificate { certificate, ca } = answer else { panic!("{answer:?}") };
    assert!(ca.contains("BEGIN CERTIFICATE"));
    Credentials { key, chain: certificate }
}

fn fingerprint(credentials: &Credentials) -> String {
    let end = "-----END CERTIFICATE-----\n";
    let (leaf, _) = credentials.chain.split_once(end).unwrap();
    ForeignCertificate::from_pem(&(leaf.to_owned() + end)).unwrap().fingerprint()
}

fn known(replica: &Replica, id: &str) -> ReplicaRouter {
    replica.router(&RouterId::new(id)).unwrap().clone()
}

#[tokio::test]
async fn a_router_presents_its_next_certificate_once_others_know_it() {
    let lab = Lab::start().await;
    let (hub, old) = lab.router("hub", true).await;
    let (edge, edges) = lab.router("edge", false).await;
    let mut channel = Channel::hello(&lab, &hub, &old).await;
    let mut other = Channel::hello(&lab, &edge, &edges).await;

    let lost = renew(&mut channel).await;
    let new = renew(&mut channel).await;
    let (before, after) = (fingerprint(&old), fingerprint(&new));
    let offered = Some(after.clone());
    let told = other.replica(|it| known(it, &hub).offered == offered).await;
    let told = known(&told, &hub);
    assert_eq!((&told.fingerprint, &told.origin), (&before, &before));

    // Both certificates count until the new one is used; an offer that another took the place of does not.
    assert!(!Channel::is_accepted(&lab, &lost, ALPN).await);
    let lab = lab.restart().await;
    let mut channel = Channel::hello(&lab, &hub, &old).await;
    channel.replica(|it| it.router(&RouterId::new(&hub)).is_some()).await;
    let mut channel = Channel::hello(&lab, &hub, &new).await;
    let told = channel.replica(|it| known(it, &hub).fingerprint == after).await;
    let router = known(&told, &hub);
    assert_eq!((&router.origin, &router.offered), (&before, &None));
    let identity = &told.identities[&IdentityId::new(&hub)];
    assert_eq!((&identity.fingerprint, &identity.origin), (&Some(after), &Some(before)));
    assert!(!Channel::is_accepted(&lab, &old, ALPN).await);

    let admin = lab.admin().await;
    let log = admin.get(&format!("{MANAGEMENT}/audit?filter=entityId=\"{hub}\"")).await.body;
    let actions: Vec<Value> =
        log["data"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions[..3], ["setCertificate", "offerCertificate", "offerCertificate"]);
}

#[tokio::test]
async fn a_certificate_that_was_taken_away_is_not_given_back_by_a_renewal() {
    let lab = Lab::start().await;
    let (hub, old) = lab.router("hub", true).await;
    let admin = lab.admin().await;
    let path = format!("{MANAGEMENT}/authenticators/cert-{hub}");
    assert_eq!(admin.delete(&path).await.status, 200);
    let mut channel = Channel::hello(&lab, &hub, &old).await;
    let new = renew(&mut channel).await;
    let mut channel = Channel::hello(&lab, &hub, &new).await;
    let told = channel.replica(|it| known(it, &hub).fingerprint == fingerprint(&new)).await;
    assert_eq!(told.identities[&IdentityId::new(&hub)].fingerprint, None);
}

#[tokio::test]
async fn nonsense_gets_no_certificate_and_the_channel_stands() {
    let lab = Lab::start().await;
    let (hub, credentials) = lab.router("hub", false).await;
    let mut channel = Channel::hello(&lab, &hub, &credentials).await;
    for request in [String::new(), "-----BEGIN CERTIFICATE REQUEST-----".into(), "x".repeat(9_999)]
    {
        channel.send(&RouterMessage::Renew { request }).await;
        let answer = channel.answer().await;
        assert!(matches!(answer, ControllerMessage::NoCertificate { .. }), "{answer:?}");
    }
    renew(&mut channel).await;
}
