//! Second factors: one-time passwords by time, recovery codes, and sessions that wait for them.

use std::time::{SystemTime, UNIX_EPOCH};

use nightgate_model::{
    control::RouterMessage,
    id::{ApiSessionId, IdentityId},
    quarantine::{Evidence, QuarantineRequest},
    replica::Replica,
};
use reqwest::Method;
use serde_json::json;
use totp_rs::{Algorithm, Builder, Secret, Totp};

use crate::{
    channel::Channel,
    common::{Answer, Caller, Credentials, Lab, MANAGEMENT},
};

const MFA: &str = "/current-identity/mfa";

/// An authenticator app.
struct App {
    totp: Totp,
    /// When it was set up. Tests last shorter than a code is good for.
    at: u64,
    recovery_codes: Vec<String>,
}

impl App {
    /// Enrolls a second factor and ends its enrollment with the earliest code of three that are good.
    async fn enroll(caller: &Caller) -> Self {
        let created = caller.post(MFA, json!({})).await;
        assert_eq!(created.status, 201, "{}", created.body);
        let shown = caller.get(MFA).await.body;
        assert_eq!(shown["data"]["isVerified"], false);
        let url = shown["data"]["provisioningUrl"].as_str().unwrap();
        let secret = url.split("secret=").nth(1).unwrap().split('&').next().unwrap();
        let totp = Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_secret(Secret::try_from_base32(secret).unwrap())
            .with_account_name("alice")
            .build()
            .unwrap();
        let codes = shown["data"]["recoveryCodes"].as_array().unwrap();
        let recovery_codes = codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect();
        // Not in the last seconds of a step.
        let mut at = now();
        while at % 30 > 20 {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            at = now();
        }
        let app = Self { totp, at, recovery_codes };
        let wrong = caller.post(&format!("{MFA}/verify"), json!({ "code": "000000" })).await;
        wrong.assert_refused(400, "MFA_INVALID_TOKEN");
        let recovery = json!({ "code": app.recovery_codes[0] });
        let wrong = caller.post(&format!("{MFA}/verify"), recovery).await;
        wrong.assert_refused(400, "MFA_INVALID_TOKEN");
        let verified = caller.post(&format!("{MFA}/verify"), json!({ "code": app.code(-1) })).await;
        assert_eq!(verified.status, 200, "{}", verified.body);
        app
    }

    /// The code of a step before or after that in which it was set up.
    fn code(&self, steps: i64) -> String {
        self.totp.generate(self.at.checked_add_signed(steps * 30).unwrap()).to_string()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn show(caller: &Caller, code: &str) -> Answer {
    caller.post("/authenticate/mfa", json!({ "code": code })).await
}

/// The data of a new session, and who has it.
async fn log_in(lab: &Lab, credentials: &Credentials) -> (Caller, serde_json::Value) {
    let mut caller = lab.caller(Some(credentials));
    let answer = caller.post("/authenticate?method=cert", json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let session = answer.body["data"].clone();
    caller.token = Some(session["token"].as_str().unwrap().into());
    (caller, session)
}

fn id_of(session: &serde_json::Value) -> ApiSessionId {
    ApiSessionId::new(session["id"].as_str().unwrap())
}

#[tokio::test]
async fn whoever_has_a_second_factor_shows_it_once_in_each_session() {
    let lab = Lab::start().await;
    let (alice, credentials) = lab.identity("alice", &[]).await;
    let first = lab.client(&credentials).await;
    first.get(MFA).await.assert_refused(404, "NOT_FOUND");
    show(&first, "123456").await.assert_refused(409, "MFA_NOT_ENROLLED");
    let app = App::enroll(&first).await;
    let shown = first.get(MFA).await.body["data"].clone();
    assert_eq!(shown["isVerified"], true);
    assert!(shown["provisioningUrl"].is_null() && shown["recoveryCodes"].is_null(), "{shown}");
    first.post(MFA, json!({})).await.assert_refused(409, "MFA_EXISTS");
    assert_eq!(first.get("/services").await.status, 200, "it has shown a code");

    let (hub, hubs) = lab.router("hub", false).await;
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    let (second, session) = log_in(&lab, &credentials).await;
    assert_eq!(
        (&session["isMfaRequired"], &session["isMfaComplete"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        session["authQueries"],
        json!([{
            "typeId": "MFA", "provider": "ziti", "httpMethod": "POST",
            "httpUrl": "./authenticate/mfa", "minLength": 6, "maxLength": 8,
            "format": "alphaNumeric",
        }])
    );
    let id = id_of(&session);
    channel.replica(|replica| replica.ended_sessions.contains(&id)).await;
    for path in ["/services", "/sessions", "/current-identity/edge-routers"] {
        second.get(path).await.assert_refused(401, "UNAUTHORIZED");
    }
    second.post("/posture-response", json!({})).await.assert_refused(401, "UNAUTHORIZED");
    assert_eq!(second.get("/current-identity").await.body["data"]["isMfaEnabled"], true);
    let asked = second.get("/current-api-session").await.body["data"].clone();
    assert_eq!(asked["authQueries"].as_array().unwrap().len(), 1);
    assert_eq!(asked["expiresAt"], session["expiresAt"], "it is not prolonged");
    show(&second, &app.code(-1)).await.assert_refused(400, "MFA_INVALID_TOKEN");
    let (lab, token) = (lab.restart().await, second.token);
    let mut second = lab.caller(Some(&credentials));
    second.token = token;
    second.get("/services").await.assert_refused(401, "UNAUTHORIZED");
    let mut channel = Channel::hello(&lab, &hub, &hubs).await;
    channel.replica(|replica| replica.ended_sessions.contains(&id)).await;

    assert_eq!(show(&second, &app.code(0)).await.status, 200);

    channel.replica(|replica| !replica.ended_sessions.contains(&id)).await;
    assert_eq!(second.get("/services").await.status, 200);
    let complete = second.get("/current-api-session").await.body["data"].clone();
    assert_eq!((&complete["isMfaComplete"], &complete["authQueries"]), (&json!(true), &json!([])));
    // Asked for again, all sessions wait.
    let path = format!("{MANAGEMENT}/identities/{alice}");
    let required = lab.admin().await.post(&format!("{path}/require-mfa"), json!({})).await;
    assert_eq!(required.status, 200, "{}", required.body);
    channel.replica(|replica| replica.ended_sessions.contains(&id)).await;
    second.get("/services").await.assert_refused(401, "UNAUTHORIZED");
    assert_eq!(show(&second, &app.code(1)).await.status, 200);
    assert_eq!(second.get("/services").await.status, 200);
}

#[tokio::test]
async fn recovery_codes_are_good_once_and_can_be_replaced() {
    let lab = Lab::start().await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let first = lab.client(&credentials).await;
    let app = App::enroll(&first).await;
    let (second, _) = log_in(&lab, &credentials).await;
    let recovery = app.recovery_codes[3].to_ascii_lowercase();
    assert_eq!(show(&second, &recovery).await.status, 200);
    let (third, _) = log_in(&lab, &credentials).await;
    show(&third, &recovery).await.assert_refused(400, "MFA_INVALID_TOKEN");
    let codes = format!("{MFA}/recovery-codes");
    first.get(&codes).await.assert_refused(400, "MFA_INVALID_TOKEN");
    let left = first.with_code(Method::GET, &codes, &app.code(-1)).await.body;
    assert_eq!(left["data"]["recoveryCodes"].as_array().unwrap().len(), 19);
    let replaced = first.post(&codes, json!({ "code": app.code(0) })).await;
    assert_eq!(replaced.status, 200, "{}", replaced.body);
    // As OpenZiti's clients ask: with the same code.
    let read = first.with_code(Method::GET, &codes, &app.code(0)).await;
    assert_eq!(read.body["data"]["recoveryCodes"], replaced.body["data"]["recoveryCodes"]);
    assert_eq!(read.body["data"]["recoveryCodes"].as_array().unwrap().len(), 20);
    show(&third, &app.recovery_codes[4]).await.assert_refused(400, "MFA_INVALID_TOKEN");
    // Removed with a code, nobody asks for it any more.
    first.delete(MFA).await.assert_refused(400, "MFA_INVALID_TOKEN");
    let removed = first.with_code(Method::DELETE, MFA, &app.code(1)).await;
    assert_eq!(removed.status, 200, "{}", removed.body);
    assert_eq!(third.get("/services").await.status, 200);
    first.get(MFA).await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn whoever_guesses_has_to_wait_and_an_operator_removes_what_was_lost() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (alice, credentials) = lab.identity("alice", &[]).await;
    let path = format!("{MANAGEMENT}/identities/{alice}");
    admin.post(&format!("{path}/require-mfa"), json!({})).await.assert_refused(409, "CONFLICT");
    admin.delete(&format!("{path}/mfa")).await.assert_refused(404, "NOT_FOUND");
    let app = App::enroll(&lab.client(&credentials).await).await;
    let (caller, _) = log_in(&lab, &credentials).await;
    for guess in 0..5 {
        let guess = format!("{guess:05}x");
        show(&caller, &guess).await.assert_refused(400, "MFA_INVALID_TOKEN");
    }
    let waits = show(&caller, &app.code(0)).await;
    waits.assert_refused(429, "SERVER_TOO_MANY_REQUESTS");
    let also = caller.with_code(Method::DELETE, MFA, &app.code(0)).await;
    also.assert_refused(429, "SERVER_TOO_MANY_REQUESTS");

    assert_eq!(admin.delete(&format!("{path}/mfa")).await.status, 200);

    assert_eq!(caller.get("/services").await.status, 200);
    assert_eq!(admin.get(&path).await.body["data"]["isMfaEnabled"], false);
    let audit = admin.get(&format!("{MANAGEMENT}/audit")).await.body.to_string();
    for action in ["\"enrollMfa\"", "\"removeMfa\""] {
        assert!(audit.contains(action), "{action} in {audit}");
    }
    assert!(!audit.contains("sealed"), "{audit}");
}

#[tokio::test]
async fn a_policy_can_ask_for_a_second_factor_of_those_who_have_none_yet() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let policy = json!({ "name": "strict", "secondary": { "requireTotp": true } });
    let policy = admin.create("auth-policies", policy).await.id;
    let (alice, credentials) = lab.identity("alice", &[]).await;
    let path = format!("{MANAGEMENT}/identities/{alice}");
    assert_eq!(admin.patch(&path, json!({ "authPolicyId": policy })).await.status, 200);
    let (caller, session) = log_in(&lab, &credentials).await;
    assert_eq!(session["isMfaComplete"], false);
    caller.get("/services").await.assert_refused(401, "UNAUTHORIZED");
    App::enroll(&caller).await;
    assert_eq!(caller.get("/services").await.status, 200);
    // Without its factor it waits again, for another one.
    assert_eq!(admin.delete(&format!("{path}/mfa")).await.status, 200);
    caller.get("/services").await.assert_refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn an_alert_asks_for_the_second_factor_again_and_puts_those_without_in_quarantine() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let (alice, alices) = lab.identity("alice", &[]).await;
    let (bob, bobs) = lab.identity("bob", &[]).await;
    let (gateway, router) = lab.router("gw", true).await;
    let path = format!("{MANAGEMENT}/edge-routers/{gateway}");
    let permitted = admin.patch(&path, json!({ "roleAttributes": ["quarantine"] })).await;
    assert_eq!(permitted.status, 200, "{}", permitted.body);
    let client = lab.client(&alices).await;
    let app = App::enroll(&client).await;
    let other = lab.client(&bobs).await;
    let mut channel = Channel::hello(&lab, &gateway, &router).await;
    let (a, b) = (IdentityId::new(&alice), IdentityId::new(&bob));
    channel.replica(|replica| replica.identities.contains_key(&a)).await;

    for identity in [&a, &b] {
        let request = QuarantineRequest {
            identity: identity.clone(),
            seconds: 600,
            reason: "odd query (7)".into(),
            second_factor: true,
            evidence: Some(Evidence::default()),
        };
        channel.send(&RouterMessage::Quarantine(request)).await;
    }

    let is_out = |replica: &Replica, id| !replica.identities.contains_key(id);
    channel.replica(|replica| is_out(replica, &a) && is_out(replica, &b)).await;
    client.get("/services").await.assert_refused(401, "UNAUTHORIZED");
    other.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    let listed = admin.get(&format!("{MANAGEMENT}/quarantines")).await.body["data"].clone();
    let shown: Vec<_> = listed.as_array().unwrap().iter().collect();
    let of = |name: &str| shown.iter().find(|it| it["identity"]["name"] == name).unwrap();
    assert_eq!((&of("alice")["secondFactor"], &of("alice")["by"]), (&json!(true), &json!("gw")));
    assert_eq!(of("bob")["secondFactor"], false);
    // A session that begins meanwhile waits too, and a wrong code changes nothing; over a restart.
    let lab = lab.restart().await;
    let admin = lab.admin().await;
    let (client, session) = log_in(&lab, &alices).await;
    assert_eq!(session["isMfaComplete"], false);
    show(&client, "000000").await.assert_refused(400, "MFA_INVALID_TOKEN");
    let mut channel = Channel::hello(&lab, &gateway, &router).await;
    channel.replica(|replica| is_out(replica, &a) && replica.index > 1).await;

    assert_eq!(show(&client, &app.code(0)).await.status, 200);

    let back = channel.replica(|replica| !is_out(replica, &a)).await;
    assert!(!back.ended_sessions.contains(&id_of(&session)) && is_out(&back, &b));
    assert_eq!(client.get("/services").await.status, 200);
    let listed = admin.get(&format!("{MANAGEMENT}/quarantines")).await.body["data"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let audit = admin.get(&format!("{MANAGEMENT}/audit")).await.body.to_string();
    for what in ["\"requireMfa\"", "\"quarantine\"", "\"release\"", "odd query (7)"] {
        assert!(audit.contains(what), "{what} in {audit}");
    }
    // An operator takes it off the list; the sessions go on waiting.
    let path = format!("{MANAGEMENT}/identities/{alice}");
    assert_eq!(admin.post(&format!("{path}/require-mfa"), json!({})).await.status, 200);
    channel.replica(|replica| is_out(replica, &a)).await;
    let released = admin.delete(&format!("{MANAGEMENT}/quarantines/{alice}")).await;
    assert_eq!(released.status, 200, "{}", released.body);
    channel.replica(|replica| !is_out(replica, &a)).await;
    client.get("/services").await.assert_refused(401, "UNAUTHORIZED");
}
