//! Enrollment over real TLS: the way in, and every refusal.

use crate::common::{Lab, one_time_token, request};
use nightgate_model::token::EnrollmentMethod;
use nightgate_store::{
    Enrollment, EnrollmentTarget, EnrollmentToken, SqliteStore, Step, Store as _, Timestamp,
};
use serde_json::json;

#[tokio::test]
async fn an_identity_enrolls_and_its_certificate_authenticates() {
    let lab = Lab::start().await;
    let (id, credentials) = lab.identity("alice", &["staff"]).await;
    let alice = lab.client(&credentials).await;
    let answer = alice.get("/current-identity").await;
    assert_eq!(answer.body["data"]["id"], id.as_str());
    assert_eq!(answer.body["data"]["name"], "alice");
}

#[tokio::test]
async fn an_enrollment_survives_a_restart() {
    let lab = Lab::start().await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let mut alice = lab.client(&credentials).await;
    let lab = lab.restart().await;
    let token = alice.token.take();
    let mut after = lab.caller(Some(&credentials));
    after.token = token;
    // The API session survives as well.
    assert_eq!(after.get("/current-api-session").await.status, 200);
}

#[tokio::test]
async fn the_token_works_once() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let created = admin.create("identities", json!({ "name": "alice" })).await;
    lab.enroll_identity(&created).await;
    let path = format!("/enroll?method=ott&token={}", one_time_token(&created));
    lab.anybody()
        .post_text(&path, request().1)
        .await
        .assert_refused(400, "INVALID_ENROLLMENT_TOKEN");
}

#[tokio::test]
async fn an_expired_token_is_refused_like_an_unknown_one() {
    let lab = Lab::start().await;
    let Lab { controller, dir, ca } = lab;
    controller.stop().await;
    let store = SqliteStore::open(&dir.path().join("nightgate.db")).unwrap();
    let mut identity = store.load().unwrap().model.identities.into_values().next().unwrap().entity;
    identity.id = nightgate_model::id::IdentityId::new("late");
    identity.name = "late".into();
    identity.fingerprint = None;
    let token = EnrollmentToken::new("expired-token");
    let enrollment = Enrollment {
        token,
        method: EnrollmentMethod::Ott,
        ca: None,
        username: None,
        expires_at: Timestamp(1),
    };
    let target = EnrollmentTarget::Identity(identity.id.clone());
    let steps = vec![Step::Create(identity.into()), Step::Enroll(target, enrollment)];
    store.apply(&steps.into(), Timestamp(0)).unwrap();
    drop(store);
    let controller = nightgate_server::Controller::start(dir.path()).await.unwrap();
    let lab = Lab { controller, dir, ca };
    for token in ["expired-token", "never-issued"] {
        let path = format!("/enroll?method=ott&token={token}");
        let answer = lab.anybody().post_text(&path, request().1).await;
        answer.assert_refused(400, "INVALID_ENROLLMENT_TOKEN");
    }
}

#[tokio::test]
async fn a_bad_request_does_not_use_the_token_up() {
    let lab = Lab::start().await;
    let created = lab.admin().await.create("identities", json!({ "name": "alice" })).await;
    let path = format!("/enroll?method=ott&token={}", one_time_token(&created));
    for garbage in [
        "",
        "garbage",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    ] {
        let answer = lab.anybody().post_text(&path, garbage.into()).await;
        answer.assert_refused(400, "COULD_NOT_PROCESS_CSR");
    }
    lab.enroll_identity(&created).await;
}

#[tokio::test]
async fn an_oversized_body_is_refused() {
    let lab = Lab::start().await;
    let created = lab.admin().await.create("identities", json!({ "name": "alice" })).await;
    let path = format!("/enroll?method=ott&token={}", one_time_token(&created));
    let answer = lab.anybody().post_text(&path, "A".repeat(1024 * 1024)).await;
    answer.assert_refused(413, "REQUEST_TOO_LARGE");
}

#[tokio::test]
async fn a_token_is_good_for_its_own_method_only() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let identity = admin.create("identities", json!({ "name": "alice" })).await;
    let router = admin.create("edge-routers", json!({ "name": "hub" })).await;
    let body = json!({ "csr": request().1 }).to_string();
    for (method, created) in [("erott", &identity), ("ott", &router)] {
        let path = format!("/enroll?method={method}&token={}", one_time_token(created));
        let answer = lab.anybody().post_text(&path, body.clone()).await;
        answer.assert_refused(400, "INVALID_ENROLLMENT_TOKEN");
    }
    let answer = lab.anybody().post_text("/enroll?method=magic&token=x", body.clone()).await;
    answer.assert_refused(400, "INVALID_ENROLL_METHOD");
    let answer = lab.anybody().post_text("/enroll", body).await;
    answer.assert_refused(400, "INVALID_ENROLL_METHOD");
}

#[tokio::test]
async fn of_many_who_try_one_token_at_once_one_gets_in() {
    let lab = Lab::start().await;
    let created = lab.admin().await.create("identities", json!({ "name": "alice" })).await;
    let path = format!("/enroll?method=ott&token={}", one_time_token(&created));
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (anybody, path) = (lab.anybody(), path.clone());
        tries.spawn(async move { anybody.post_text(&path, request().1).await.status });
    }
    let outcomes = tries.join_all().await;
    assert_eq!(outcomes.iter().filter(|status| status.is_success()).count(), 1, "{outcomes:?}");
}

#[tokio::test]
async fn a_router_with_its_own_identity_enrolls_both_at_once() {
    let lab = Lab::start().await;
    let (id, credentials) = lab.router("gw", true).await;
    let gateway = lab.client(&credentials).await;
    let answer = gateway.get("/current-identity").await;
    assert_eq!(answer.body["data"]["id"], id.as_str());
    assert_eq!(answer.body["data"]["typeId"], "Router");
    let (_, credentials) = lab.router("hub", false).await;
    let hub = lab.caller(Some(&credentials));
    let answer = hub.post("/authenticate?method=cert", json!({})).await;
    answer.assert_refused(401, "INVALID_AUTH");
}

#[tokio::test]
async fn a_router_cannot_get_a_certificate_for_a_bad_address() {
    let lab = Lab::start().await;
    let created = lab.admin().await.create("edge-routers", json!({ "name": "hub" })).await;
    let path = format!("/enroll?method=erott&token={}", one_time_token(&created));
    let body = json!({ "csr": request().1, "address": "not an address" });
    lab.anybody().post(&path, body).await.assert_refused(400, "COULD_NOT_VALIDATE");
}
