//! Enrollments as operators see and change them, and enrollment by password.

use nightgate_model::api::Created;
use serde_json::json;

use crate::common::{CLIENT, Lab, MANAGEMENT, claims, one_time_token};

#[tokio::test]
async fn an_identity_enrolls_with_a_password_once() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let body = json!({ "name": "bob", "enrollment": { "updb": "bob@acme" } });
    let created = admin.create("identities", body).await;
    assert_eq!(claims(created.enrollment_jwt.as_ref().unwrap())["em"], "updb");
    let path = format!("/enroll?method=updb&token={}", one_time_token(&created));
    let anybody = lab.anybody();
    let refusals = [
        (json!({ "password": "short" }), "COULD_NOT_VALIDATE"),
        (json!({ "username": "eve", "password": "correct horse" }), "COULD_NOT_VALIDATE"),
        (json!({}), "COULD_NOT_PARSE_BODY"),
    ];
    for (body, code) in refusals {
        anybody.post(&path, body).await.assert_refused(400, code);
    }
    let body = json!({ "username": "bob@acme", "password": "correct horse" });
    assert_eq!(anybody.post(&path, body.clone()).await.status, 200);
    anybody.post(&path, body.clone()).await.assert_refused(400, "INVALID_ENROLLMENT_TOKEN");
    let answer = anybody.post(&format!("{CLIENT}/authenticate?method=password"), body).await;
    assert_eq!(answer.body["data"]["identityId"], created.id.as_str());
}

#[tokio::test]
async fn pending_enrollments_are_listed_and_taken_back_without_their_tokens() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let created = admin.create("identities", json!({ "name": "bob" })).await;
    let router = admin.create("edge-routers", json!({ "name": "hub" })).await;
    let list = admin.get(&format!("{MANAGEMENT}/enrollments")).await.body;
    assert_eq!(list["meta"]["pagination"]["totalCount"], 2);
    for secret in [one_time_token(&created), one_time_token(&router)] {
        assert!(!list.to_string().contains(&secret), "{list}");
    }
    let own = format!("{MANAGEMENT}/identities/{}/enrollments", created.id);
    let own = admin.get(&own).await.body["data"][0].take();
    assert_eq!((&own["method"], &own["identity"]["name"]), (&json!("ott"), &json!("bob")));
    let one = format!("{MANAGEMENT}/enrollments/{}", own["id"].as_str().unwrap());
    assert_eq!(admin.get(&one).await.body["data"], own);
    assert_eq!(admin.delete(&one).await.status, 200);
    admin.delete(&one).await.assert_refused(404, "NOT_FOUND");
    let path = format!("/enroll?method=ott&token={}", one_time_token(&created));
    let refused = lab.anybody().post_text(&path, crate::common::request().1).await;
    refused.assert_refused(400, "INVALID_ENROLLMENT_TOKEN");
}

#[tokio::test]
async fn an_identity_enrolls_again_by_another_token() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (id, before) = lab.identity("bob", &[]).await;
    let wanted = json!({ "identityId": id, "method": "ott", "expiresAt": "2100-01-01T00:00:00Z" });
    let offer = admin.post(&format!("{MANAGEMENT}/enrollments"), wanted.clone()).await;
    let offer: Created = serde_json::from_value(offer.body["data"].clone()).unwrap();
    let again = admin.post(&format!("{MANAGEMENT}/enrollments"), wanted).await;
    again.assert_refused(409, "CONFLICT");
    // A refreshed enrollment has another token; the one before is good for nothing.
    let refresh = format!("{MANAGEMENT}/enrollments/{}/refresh", offer.id);
    let body = json!({ "expiresAt": "2100-01-02T00:00:00Z" });
    let fresh: Created =
        serde_json::from_value(admin.post(&refresh, body).await.body["data"].clone()).unwrap();
    let path = format!("/enroll?method=ott&token={}", one_time_token(&offer));
    let refused = lab.anybody().post_text(&path, crate::common::request().1).await;
    refused.assert_refused(400, "INVALID_ENROLLMENT_TOKEN");
    let client = lab.client(&before).await;
    let after = lab.enroll_identity(&fresh).await;
    client.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    let client = lab.client(&after).await;
    assert_eq!(client.get("/current-identity").await.body["data"]["id"], id.as_str());
}

#[tokio::test]
async fn an_identity_may_be_made_without_an_enrollment_and_not_with_two() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let created = admin.create("identities", json!({ "name": "bob", "enrollment": {} })).await;
    assert_eq!(created.enrollment_jwt, None);
    for enrollment in [json!({ "ott": true, "updb": "x" }), json!({ "magic": true }), json!(3)] {
        let body = json!({ "name": "carol", "enrollment": enrollment });
        let refused = admin.post(&format!("{MANAGEMENT}/identities"), body).await;
        assert_eq!(refused.status, 400, "{enrollment}: {}", refused.body);
    }
    let past =
        json!({ "identityId": created.id, "method": "ott", "expiresAt": "2020-01-01T00:00:00Z" });
    let refused = admin.post(&format!("{MANAGEMENT}/enrollments"), past).await;
    refused.assert_refused(400, "COULD_NOT_VALIDATE");
}
