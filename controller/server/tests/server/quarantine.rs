//! Identities cut off for a while, by routers and by operators.

use nightgate_model::{
    control::{ControllerMessage, RouterMessage},
    id::IdentityId,
    quarantine::{Evidence, QuarantineRequest},
};
use serde_json::{Value, json};

use crate::{
    channel::Channel,
    common::{Caller, Lab, MANAGEMENT},
};

const LIST: &str = "/edge/management/v1/quarantines";

fn request(identity: &str, seconds: u64) -> RouterMessage {
    RouterMessage::Quarantine(QuarantineRequest {
        identity: IdentityId::new(identity),
        seconds,
        reason: "alert 1000001 (uri)".into(),
        second_factor: false,
        evidence: Some(Evidence { service: "web".into(), severity: 1, ..Evidence::default() }),
    })
}

async fn listed(admin: &Caller) -> Vec<Value> {
    admin.get(LIST).await.body["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_alert_of_a_permitted_router_cuts_an_identity_off_until_it_is_released() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (alice, credentials) = lab.identity("alice", &[]).await;
    let (gateway, router) = lab.router("gw", true).await;
    let client = lab.client(&credentials).await;
    let mut channel = Channel::hello(&lab, &gateway, &router).await;
    let path = format!("{MANAGEMENT}/edge-routers/{gateway}");
    let patched = admin.patch(&path, json!({ "roleAttributes": ["quarantine"] })).await;
    assert_eq!(patched.status, 200, "{}", patched.body);

    channel.send(&request(&alice, 3_600)).await;
    let id = IdentityId::new(&alice);
    let answer = channel.answer().await;
    let ControllerMessage::QuarantineBegun { identity, index } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(identity, id);
    assert!(index > 1, "{index}");
    client.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    let again = lab.caller(Some(&credentials)).post("/authenticate?method=cert", json!({})).await;
    again.assert_refused(401, "INVALID_AUTH");
    let quarantine = &listed(&admin).await[0];
    assert_eq!(quarantine["identity"]["name"], "alice");
    assert_eq!(
        (&quarantine["by"], &quarantine["evidence"]["service"]),
        (&json!("gw"), &json!("web"))
    );
    let audit = admin.get(&format!("{MANAGEMENT}/audit")).await.body.to_string();
    assert!(audit.contains("\"quarantine\"") && audit.contains("alert 1000001"), "{audit}");

    let lab = lab.restart().await;
    let admin = lab.admin().await;
    assert_eq!(listed(&admin).await.len(), 1, "over a restart");
    let released = admin.delete(&format!("{LIST}/{alice}")).await;
    assert_eq!(released.status, 200, "{}", released.body);
    assert!(listed(&admin).await.is_empty());
    admin.delete(&format!("{LIST}/{alice}")).await.assert_refused(404, "NOT_FOUND");
    lab.client(&credentials).await;
}

#[tokio::test]
async fn a_quarantine_ends_by_itself() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (alice, credentials) = lab.identity("alice", &[]).await;
    let body = json!({ "identityId": alice, "seconds": 1, "reason": "a look" });
    assert_eq!(admin.post(LIST, body).await.status, 200);
    let refused = lab.caller(Some(&credentials)).post("/authenticate?method=cert", json!({})).await;
    refused.assert_refused(401, "INVALID_AUTH");
    tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while !listed(&admin).await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("it is over");
    lab.client(&credentials).await;
}

#[tokio::test]
async fn nobody_is_cut_off_by_a_router_without_the_attribute_and_never_an_operator_or_a_router() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (alice, _) = lab.identity("alice", &[]).await;
    let (gateway, router) = lab.router("gw", true).await;
    let (_, own) = admin.find("identities", "admin").await;
    let own = own["id"].as_str().unwrap();
    let mut channel = Channel::hello(&lab, &gateway, &router).await;
    channel.send(&request(&alice, 60)).await;
    for identity in [own, gateway.as_str()] {
        let body = json!({ "identityId": identity, "seconds": 60 });
        admin.post(LIST, body).await.assert_refused(409, "CONFLICT");
    }
    let unknown = json!({ "identityId": "nobody", "seconds": 60 });
    admin.post(LIST, unknown).await.assert_refused(404, "NOT_FOUND");
    let endless = json!({ "identityId": alice, "seconds": 0 });
    admin.post(LIST, endless).await.assert_refused(400, "COULD_NOT_VALIDATE");
    assert!(listed(&admin).await.is_empty());
}

#[tokio::test]
async fn who_was_disabled_by_hand_stays_so_when_the_quarantine_ends() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (alice, credentials) = lab.identity("alice", &[]).await;
    let disabled = admin.post(&format!("{MANAGEMENT}/identities/{alice}/disable"), json!({})).await;
    assert_eq!(disabled.status, 200);
    let body = json!({ "identityId": alice, "seconds": 60, "reason": "" });
    assert_eq!(admin.post(LIST, body).await.status, 200);
    assert_eq!(admin.delete(&format!("{LIST}/{alice}")).await.status, 200);
    let refused = lab.caller(Some(&credentials)).post("/authenticate?method=cert", json!({})).await;
    refused.assert_refused(401, "INVALID_AUTH");
}
