//! Logging in with a password, over real TLS.

use serde_json::{Value, json};

use crate::common::{Answer, Caller, Lab, MANAGEMENT};

async fn log_in(lab: &Lab, username: &str, password: &str) -> (Caller, Answer) {
    let mut caller = lab.anybody();
    let body = json!({ "username": username, "password": password });
    let path = format!("{MANAGEMENT}/authenticate?method=password");
    let answer = caller.post(&path, body).await;
    caller.token = answer.body["data"]["token"].as_str().map(str::to_owned);
    (caller, answer)
}

#[tokio::test]
async fn an_administrator_manages_after_logging_in_with_a_password() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (path, _) = admin.find("identities", "admin").await;
    let password = format!("{path}/password");
    admin
        .put(&password, json!({ "password": "short" }))
        .await
        .assert_refused(400, "COULD_NOT_VALIDATE");
    let body = json!({ "username": "root", "password": "correct horse" });
    assert_eq!(admin.put(&password, body).await.status, 200);

    for (name, guess) in [("root", "battery staple"), ("admin", "correct horse"), ("", "")] {
        let (_, answer) = log_in(&lab, name, guess).await;
        answer.assert_refused(401, "INVALID_AUTH");
    }
    let (root, answer) = log_in(&lab, "root", "correct horse").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    root.create("services", json!({ "name": "web" })).await;
    let lab = lab.restart().await;
    let mut again = lab.anybody();
    again.token = root.token;
    assert_eq!(again.get(&path).await.status, 200, "the session survives a restart");

    let log = again.get(&format!("{MANAGEMENT}/audit?filter=action=\"setPassword\"")).await.body;
    assert_eq!(log["data"][0]["name"], "admin");
    assert_eq!(log["data"][0]["after"], Value::Null);
    assert_eq!(again.delete(&password).await.status, 200);
    again.get(&path).await.assert_refused(401, "UNAUTHORIZED");
    log_in(&lab, "root", "correct horse").await.1.assert_refused(401, "INVALID_AUTH");
}

#[tokio::test]
async fn guessing_is_locked_out_and_certificates_go_on() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (path, _) = admin.find("identities", "admin").await;
    let body = json!({ "password": "correct horse" });
    assert_eq!(admin.put(&format!("{path}/password"), body).await.status, 200);
    for _guess in 0..5 {
        log_in(&lab, "admin", "wrong").await.1.assert_refused(401, "INVALID_AUTH");
    }
    log_in(&lab, "admin", "correct horse").await.1.assert_refused(401, "INVALID_AUTH");
    lab.admin().await;
}

#[tokio::test]
async fn a_password_lets_a_disabled_identity_in_no_more_than_a_certificate() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let id = admin.create("identities", json!({ "name": "alice" })).await.id;
    let path = format!("{MANAGEMENT}/identities/{id}");
    let body = json!({ "password": "correct horse" });
    assert_eq!(admin.put(&format!("{path}/password"), body).await.status, 200);
    let (alice, answer) = log_in(&lab, "alice", "correct horse").await;
    assert_eq!(answer.status, 200);
    alice.get(&path).await.assert_refused(403, "FORBIDDEN");
    admin.post(&format!("{path}/disable"), json!({})).await;
    alice.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    log_in(&lab, "alice", "correct horse").await.1.assert_refused(401, "INVALID_AUTH");
}
