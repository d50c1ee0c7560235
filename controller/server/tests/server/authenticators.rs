//! Certificates and passwords: listed, taken away, renewed.

use nightgate_server::{Controller, roll_over, roll_over_root};
use serde_json::{Value, json};

use crate::common::{CLIENT, Credentials, Lab, MANAGEMENT, one_time_token, request};

/// Extends the certificate of an identity; the answer is the new one.
async fn extend(lab: &Lab, credentials: &Credentials) -> Credentials {
    let client = lab.client(credentials).await;
    let own = client.get(&format!("{CLIENT}/current-identity/authenticators")).await.body;
    let id = own["data"][0]["id"].as_str().unwrap();
    let (key, csr) = request();
    let path = format!("{CLIENT}/current-identity/authenticators/{id}/extend");
    let answer = client.post(&path, json!({ "clientCertCsr": csr })).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body["data"]["ca"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    Credentials { key, chain: answer.body["data"]["clientCert"].as_str().unwrap().into() }
}

#[tokio::test]
async fn a_renewed_certificate_takes_the_place_of_the_old_one_once_it_is_verified() {
    let lab = Lab::start().await;
    let (id, old) = lab.identity("alice", &[]).await;
    let new = extend(&lab, &old).await;
    let client = lab.client(&old).await;
    let path = format!("{CLIENT}/current-identity/authenticators/cert-{id}/extend-verify");
    let wrong = client.post(&path, json!({ "clientCert": old.chain })).await;
    wrong.assert_refused(400, "COULD_NOT_VALIDATE");
    assert_eq!(client.post(&path, json!({ "clientCert": new.chain })).await.status, 200);
    client.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    let refused = lab.caller(Some(&old)).post("/authenticate?method=cert", json!({})).await;
    refused.assert_refused(401, "INVALID_AUTH");
    let client = lab.client(&new).await;
    assert_eq!(client.get("/current-identity").await.body["data"]["id"], id.as_str());
}

#[tokio::test]
async fn to_authenticate_with_a_renewed_certificate_verifies_it_also_after_a_restart() {
    let lab = Lab::start().await;
    let (_, old) = lab.identity("alice", &[]).await;
    let lost = extend(&lab, &old).await;
    let new = extend(&lab, &old).await;
    let lab = lab.restart().await;
    // An offer that another took the place of is good for nothing.
    let refused = lab.caller(Some(&lost)).post("/authenticate?method=cert", json!({})).await;
    refused.assert_refused(401, "INVALID_AUTH");
    lab.client(&old).await;
    lab.client(&new).await;
    let refused = lab.caller(Some(&old)).post("/authenticate?method=cert", json!({})).await;
    refused.assert_refused(401, "INVALID_AUTH");
}

#[tokio::test]
async fn nobody_extends_or_sees_what_is_anothers() {
    let lab = Lab::start().await;
    let (alice, _) = lab.identity("alice", &[]).await;
    let (_, bob) = lab.identity("bob", &[]).await;
    let (gateway, router) = lab.router("gw", true).await;
    let bob = lab.client(&bob).await;
    let path = format!("{CLIENT}/current-identity/authenticators/cert-{alice}");
    let body = json!({ "clientCertCsr": request().1 });
    // GHSA-6v5r: what others authenticate with is not even there.
    bob.get(&path).await.assert_refused(404, "NOT_FOUND");
    bob.post(&format!("{path}/extend"), body.clone()).await.assert_refused(404, "NOT_FOUND");
    let own = bob.get(&format!("{CLIENT}/current-identity/authenticators")).await.body;
    assert_eq!(own["meta"]["pagination"]["totalCount"], 1);
    bob.get(&format!("{MANAGEMENT}/authenticators")).await.assert_refused(403, "FORBIDDEN");
    let router = lab.client(&router).await;
    let path = format!("{CLIENT}/current-identity/authenticators/cert-{gateway}/extend");
    router.post(&path, body).await.assert_refused(409, "CONFLICT");
}

#[tokio::test]
async fn a_certificate_that_is_taken_away_lets_nobody_in_until_another_enrollment() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (id, credentials) = lab.identity("alice", &[]).await;
    let alice = lab.client(&credentials).await;
    let path = format!("{MANAGEMENT}/authenticators/cert-{id}");
    let shown = admin.get(&path).await.body["data"].take();
    assert_eq!((&shown["method"], &shown["isIssuedByNetwork"]), (&json!("cert"), &json!(true)));
    assert!(shown["certPem"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    let again = admin.post(&format!("{path}/re-enroll"), json!({})).await;
    let again = serde_json::from_value(again.body["data"].clone()).unwrap();
    alice.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    let refused = lab.caller(Some(&credentials)).post("/authenticate?method=cert", json!({})).await;
    refused.assert_refused(401, "INVALID_AUTH");
    admin.get(&path).await.assert_refused(404, "NOT_FOUND");
    let after = lab.enroll_identity(&again).await;
    lab.client(&after).await;
    assert_eq!(admin.delete(&path).await.status, 200);
    admin.delete(&path).await.assert_refused(404, "NOT_FOUND");
    let refused = lab.caller(Some(&after)).post("/authenticate?method=cert", json!({})).await;
    refused.assert_refused(401, "INVALID_AUTH");
    // Nobody takes the means from itself.
    let (_, own) = admin.find("identities", "admin").await;
    let own = format!("{MANAGEMENT}/authenticators/cert-{}", own["id"].as_str().unwrap());
    admin.delete(&own).await.assert_refused(409, "CONFLICT");
}

#[tokio::test]
async fn passwords_are_authenticators_too() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (id, _) = lab.identity("alice", &[]).await;
    let body = json!({
        "method": "updb", "identityId": id, "username": "al", "password": "correct horse",
    });
    let created = admin.post(&format!("{MANAGEMENT}/authenticators"), body.clone()).await;
    assert_eq!(created.status, 201, "{}", created.body);
    let again = admin.post(&format!("{MANAGEMENT}/authenticators"), body.clone()).await;
    again.assert_refused(409, "CONFLICT");
    let all = admin.get(&format!("{MANAGEMENT}/identities/{id}/authenticators?sort=method")).await;
    let methods: Vec<_> =
        all.body["data"].as_array().unwrap().iter().map(|one| one["method"].clone()).collect();
    assert_eq!(methods, ["cert", "updb"]);
    assert!(!all.body.to_string().contains("argon2"), "no hash is shown");
    let (_, shown) = admin.find("identities", "alice").await;
    assert_eq!(shown["authenticators"]["updb"]["username"], "al");
    let path = format!("{MANAGEMENT}/authenticators/updb-{id}/re-enroll");
    let again = admin.post(&path, json!({ "expiresAt": "2100-01-01T00:00:00Z" })).await;
    let again = serde_json::from_value(again.body["data"].clone()).unwrap();
    let log_in = json!({ "username": "al", "password": "correct horse" });
    let refused = lab.anybody().post("/authenticate?method=password", log_in).await;
    refused.assert_refused(401, "INVALID_AUTH");
    let path = format!("/enroll?method=updb&token={}", one_time_token(&again));
    let answer = lab.anybody().post(&path, json!({ "password": "battery staple" })).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let log = admin.get(&format!("{MANAGEMENT}/audit?filter=entityId=\"{id}\"")).await.body;
    let actions: Vec<Value> =
        log["data"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    let expected =
        ["setPassword", "offerEnrollment", "removePassword", "setPassword", "enroll", "create"];
    assert_eq!(actions, expected);
}

/// Certificates without their issuer, as some SDKs present them.
fn bare(credentials: &Credentials) -> Credentials {
    let end = "-----END CERTIFICATE-----\n";
    let (leaf, _) = credentials.chain.split_once(end).unwrap();
    Credentials { key: credentials.key.clone(), chain: leaf.to_owned() + end }
}

#[tokio::test]
async fn certificates_of_the_old_and_the_new_signer_authenticate_after_a_roll_over() {
    let lab = Lab::start().await;
    let (_, old) = lab.identity("alice", &[]).await;
    let (_, oldest) = lab.identity("dave", &[]).await;
    assert!(roll_over(lab.dir.path()).is_err(), "the controller runs");
    let Lab { controller, dir, ca } = lab;
    controller.stop().await;
    roll_over(dir.path()).unwrap();
    let lab = Lab { controller: Controller::start(dir.path()).await.unwrap(), dir, ca };
    let (_, new) = lab.identity("bob", &[]).await;
    for credentials in [&old, &new] {
        lab.client(credentials).await;
        lab.client(&bare(credentials)).await;
    }
    lab.client(&extend(&lab, &old).await).await;

    // Another root: this caller, who knows the old one alone, goes on.
    let Lab { controller, dir, ca } = lab;
    controller.stop().await;
    roll_over_root(dir.path()).unwrap();
    let lab = Lab { controller: Controller::start(dir.path()).await.unwrap(), dir, ca };
    let (_, newest) = lab.identity("carol", &[]).await;
    for credentials in [&oldest, &new, &newest] {
        lab.client(credentials).await;
        lab.client(&bare(credentials)).await;
    }
    lab.client(&extend(&lab, &new).await).await;
}
