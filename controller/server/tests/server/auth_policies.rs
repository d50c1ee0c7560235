//! By what identities may authenticate.

use nightgate_model::id::{CaId, IdentityId};
use nightgate_pki::ForeignCertificate;
use nightgate_store::{Certificate, EnrollmentTarget, SqliteStore, Step, Store as _, Timestamp};
use serde_json::{Value, json};

use crate::{
    cas::Acme,
    common::{Answer, Credentials, Lab, MANAGEMENT},
};

/// Logs in with a name and a password.
async fn log_in(lab: &Lab, username: &str, password: &str) -> Answer {
    let body = json!({ "username": username, "password": password });
    lab.anybody().post("/authenticate?method=password", body).await
}

#[tokio::test]
async fn a_policy_says_by_what_its_identities_authenticate() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (id, credentials) = lab.identity("alice", &[]).await;
    let path = format!("{MANAGEMENT}/identities/{id}");
    let password = json!({ "password": "correct horse" });
    assert_eq!(admin.put(&format!("{path}/password"), password).await.status, 200);
    let by_certificate = lab.client(&credentials).await;
    let mut by_password = lab.anybody();
    let logged_in = log_in(&lab, "alice", "correct horse").await;
    by_password.token = Some(logged_in.body["data"]["token"].as_str().unwrap().into());
    let body = json!({
        "name": "passwords only", "primary": { "cert": { "allowed": false } },
        "secondary": { "requireTotp": false },
    });
    let policy = admin.create("auth-policies", body).await.id;

    assert_eq!(admin.patch(&path, json!({ "authPolicyId": policy })).await.status, 200);

    by_certificate.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    let refused = lab.caller(Some(&credentials)).post("/authenticate?method=cert", json!({})).await;
    refused.assert_refused(401, "INVALID_AUTH");
    assert_eq!(by_password.get("/current-identity").await.status, 200);
    let (_, shown) = admin.find("identities", "alice").await;
    assert_eq!(shown["authPolicy"]["name"], "passwords only");
    // The policy changes under its identities, part by part, and survives a restart.
    let policy = format!("{MANAGEMENT}/auth-policies/{policy}");
    let other = json!({ "primary": { "cert": { "allowed": true }, "updb": { "allowed": false } } });
    assert_eq!(admin.patch(&policy, other).await.status, 200);
    by_password.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    admin.delete(&policy).await.assert_refused(409, "CONFLICT");
    let lab = lab.restart().await;
    let admin = lab.admin().await;
    lab.client(&credentials).await;
    log_in(&lab, "alice", "correct horse").await.assert_refused(401, "INVALID_AUTH");
    assert_eq!(admin.patch(&path, json!({ "authPolicyId": null })).await.status, 200);
    assert_eq!(log_in(&lab, "alice", "correct horse").await.status, 200);
    assert_eq!(admin.delete(&policy).await.status, 200);
}

#[tokio::test]
async fn nobody_shuts_itself_out_and_the_default_policy_stays() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let default = format!("{MANAGEMENT}/auth-policies/default");
    assert_eq!(admin.get(&default).await.body["data"]["name"], "Default");
    let shut = json!({ "primary": { "cert": { "allowed": false } } });
    admin.patch(&default, shut.clone()).await.assert_refused(409, "CONFLICT");
    admin.patch(&default, json!({ "name": "other" })).await.assert_refused(409, "CONFLICT");
    admin.delete(&default).await.assert_refused(409, "CONFLICT");
    let mut body = shut;
    body["name"] = "no certificates".into();
    let policy = admin.create("auth-policies", body).await.id;
    let (own, _) = admin.find("identities", "admin").await;
    let refused = admin.patch(&own, json!({ "authPolicyId": policy })).await;
    refused.assert_refused(409, "CONFLICT");
    let refused = admin.patch(&own, json!({ "authPolicyId": "nothing" })).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
}

#[tokio::test]
async fn new_passwords_are_as_their_policy_asks() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let strict = json!({
        "name": "strict",
        "primary": { "updb": { "minPasswordLength": 14, "requireNumberChar": true } },
    });
    let policy = admin.create("auth-policies", strict).await.id;
    let body = json!({ "name": "bob", "authPolicyId": policy, "enrollment": {} });
    let id = admin.create("identities", body).await.id;
    let path = format!("{MANAGEMENT}/identities/{id}/password");
    for (password, status) in
        [("correct horse", 400), ("correct horse battery", 400), ("correct horse 17", 200)]
    {
        let answer = admin.put(&path, json!({ "password": password })).await;
        assert_eq!(answer.status, status, "{password}: {}", answer.body);
    }
    let weak = json!({ "name": "weak", "primary": { "updb": { "minPasswordLength": 4 } } });
    let refused = admin.post(&format!("{MANAGEMENT}/auth-policies"), weak).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
}

#[tokio::test]
async fn a_policy_says_how_often_somebody_may_guess() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let hasty = json!({ "name": "hasty", "primary": { "updb": { "maxAttempts": 2 } } });
    let policy = admin.create("auth-policies", hasty).await.id;
    for (name, policy) in [("bob", policy.as_str()), ("carol", "default")] {
        let body = json!({ "name": name, "authPolicyId": policy, "enrollment": {} });
        let id = admin.create("identities", body).await.id;
        let path = format!("{MANAGEMENT}/identities/{id}/password");
        let password = json!({ "password": "correct horse" });
        assert_eq!(admin.put(&path, password).await.status, 200);
        for _ in 0..2 {
            log_in(&lab, name, "battery staple").await.assert_refused(401, "INVALID_AUTH");
        }
    }
    log_in(&lab, "bob", "correct horse").await.assert_refused(401, "INVALID_AUTH");
    assert_eq!(log_in(&lab, "carol", "correct horse").await.status, 200);
}

#[tokio::test]
async fn network_files_put_identities_under_policies_by_name() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let changes = json!([
        { "action": "create", "kind": "authPolicy", "name": "strict", "fields": {
            "name": "strict", "primary": { "updb": { "allowed": false } },
        } },
        { "action": "create", "kind": "identity", "name": "alice", "fields": {
            "name": "alice", "authPolicyId": "strict", "tags": { "site": "eu" },
        } },
        { "action": "create", "kind": "identity", "name": "bob", "fields": {
            "name": "bob", "authPolicyId": "default",
        } },
    ]);
    let answer = admin.post(&format!("{MANAGEMENT}/network"), changes).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let (_, alice) = admin.find("identities", "alice").await;
    let named = |shown: &Value| shown["authPolicy"]["name"].as_str().unwrap().to_owned();
    assert_eq!((named(&alice), &alice["tags"]["site"]), ("strict".into(), &json!("eu")));
    assert_eq!(named(&admin.find("identities", "bob").await.1), "Default");
}

#[tokio::test]
async fn a_certificate_that_has_ended_counts_only_where_a_policy_says_so() {
    let acme = Acme::new();
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let ca = acme.register(&admin, json!({})).await;
    let (bob, carol) = (acme.certify_long_ago("bob"), acme.certify_long_ago("carol"));
    let mut steps = Vec::new();
    for (name, credentials) in [("bob", &bob), ("carol", &carol)] {
        let id = admin.create("identities", json!({ "name": name, "enrollment": {} })).await.id;
        steps.push(certify(&id, &ca, credentials));
    }
    // They enrolled when their certificates were good.
    let Lab { controller, dir, ca } = lab;
    controller.stop().await;
    let store = SqliteStore::open(&dir.path().join("nightgate.db")).unwrap();
    let at = store.load().unwrap().model.changed_at().unwrap();
    store.apply(&steps.into(), Timestamp(at.0 + 1)).unwrap();
    drop(store);
    let controller = nightgate_server::Controller::start(dir.path()).await.unwrap();
    let lab = Lab { controller, dir, ca };
    let admin = lab.admin().await;
    lab.caller(Some(&bob)).try_get("/version").await.unwrap_err();

    let body = json!({ "name": "late", "primary": { "cert": { "allowExpiredCerts": true } } });
    let policy = admin.create("auth-policies", body).await.id;
    let (path, _) = admin.find("identities", "bob").await;
    assert_eq!(admin.patch(&path, json!({ "authPolicyId": policy })).await.status, 200);

    let client = lab.client(&bob).await;
    assert_eq!(client.get("/current-identity").await.status, 200);
    let refused = lab.caller(Some(&carol)).post("/authenticate?method=cert", json!({})).await;
    refused.assert_refused(401, "INVALID_AUTH");
    assert_eq!(admin.patch(&path, json!({ "authPolicyId": "default" })).await.status, 200);
    client.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
}

fn certify(identity: &str, ca: &str, credentials: &Credentials) -> Step {
    let pem = credentials.chain.clone();
    let fingerprint = ForeignCertificate::from_pem(&pem).unwrap().fingerprint();
    let certificate = Certificate::first(fingerprint, pem, Some(CaId::new(ca)));
    Step::Certify(EnrollmentTarget::Identity(IdentityId::new(identity)), certificate)
}
