//! The client interface over real TLS, in the order that OpenZiti's C SDK calls it.

use crate::common::{CLIENT, Lab, MANAGEMENT, claims};
use serde_json::{Value, json};

/// A service that alice may dial and bob may bind.
async fn with_service(lab: &Lab) -> String {
    let admin = lab.admin().await;
    let body = json!({
        "name": "web",
        "roleAttributes": ["internal"],
        "config": {
            "intercept.v1": {
                "protocols": ["tcp"],
                "addresses": ["web.internal"],
                "portRanges": [{ "low": 80, "high": 80 }],
            },
            "host.v1": { "protocol": "tcp", "address": "127.0.0.1", "port": 8080 },
        },
    });
    let service = admin.create("services", body).await.id;
    for (name, permission, role) in [("dial", "Dial", "#staff"), ("bind", "Bind", "#servers")] {
        let body = json!({
            "name": name,
            "type": permission,
            "semantic": "AnyOf",
            "identityRoles": [role],
            "serviceRoles": [format!("@{service}")],
        });
        admin.create("service-policies", body).await;
    }
    service
}

#[tokio::test]
async fn anybody_may_ask_for_the_version_and_the_ca() {
    let lab = Lab::start().await;
    for path in ["/version", "/edge/client/v1/version", "/edge/management/v1/version"] {
        let answer = lab.anybody().get(path).await;
        let data = &answer.body["data"];
        assert_eq!(data["apiVersions"]["edge"]["v1"]["path"], CLIENT);
        assert!(data["capabilities"].is_array(), "C clients crash without it");
    }
    for path in ["/.well-known/est/cacerts", "/edge/client/v1/.well-known/est/cacerts"] {
        let answer = lab.anybody().get(path).await;
        let text = answer.body.as_str().expect("base64 text");
        assert!(text.starts_with("MII"), "{text}");
    }
    let answer = lab.anybody().get("/external-jwt-signers?limit=25&offset=0").await;
    assert_eq!(answer.body["meta"]["pagination"]["totalCount"], 0);
}

#[tokio::test]
async fn without_a_session_nothing_is_learned() {
    let lab = Lab::start().await;
    let service = with_service(&lab).await;
    let anybody = lab.anybody();
    for path in [
        "/current-identity".to_owned(),
        "/current-api-session".to_owned(),
        "/current-api-session/service-updates".to_owned(),
        "/current-identity/edge-routers".to_owned(),
        "/services".to_owned(),
        format!("/services/{service}"),
        "/services/unknown".to_owned(),
        format!("/services/{service}/edge-routers"),
        "/sessions".to_owned(),
        "/sessions/unknown".to_owned(),
        format!("{MANAGEMENT}/identities"),
        format!("{MANAGEMENT}/services/{service}"),
        format!("{MANAGEMENT}/explain?identity=admin&service=web&type=Dial"),
    ] {
        anybody.get(&path).await.assert_refused(401, "UNAUTHORIZED");
    }
    let body = json!({ "serviceId": service, "type": "Dial" });
    anybody.post("/sessions", body).await.assert_refused(401, "UNAUTHORIZED");
    let body = json!({ "name": "mallory", "isAdmin": true });
    anybody
        .post(&format!("{MANAGEMENT}/identities"), body)
        .await
        .assert_refused(401, "UNAUTHORIZED");
    anybody.post("/authenticate?method=cert", json!({})).await.assert_refused(401, "INVALID_AUTH");
    anybody
        .post("/authenticate?method=guess", json!({}))
        .await
        .assert_refused(400, "INVALID_AUTH_METHOD");
}

#[tokio::test]
async fn a_client_goes_from_certificate_to_session() {
    let lab = Lab::start().await;
    let service = with_service(&lab).await;
    let (id, credentials) = lab.identity("alice", &["staff"]).await;
    let alice = lab.client(&credentials).await;

    let session = alice.get("/current-api-session").await.body["data"].clone();
    assert_eq!(session["identity"]["id"], id.as_str());
    assert!(session["expiresAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(session["authQueries"], json!([]));

    let answer = alice.get("/services?configTypes=all&limit=25&offset=0").await;
    assert_eq!(answer.body["meta"]["pagination"]["totalCount"], 1);
    let listed = &answer.body["data"][0];
    assert_eq!(listed["id"], service.as_str());
    assert_eq!(listed["permissions"], json!(["Dial"]));
    assert_eq!(listed["postureQueries"], json!([]));
    assert_eq!(listed["config"]["host.v1"]["port"], 8080);

    let body = json!({ "serviceId": service, "type": "Dial" });
    let answer = alice.post("/sessions", body.clone()).await;
    assert_eq!(answer.status, 201);
    let session = &answer.body["data"];
    assert!(session["expiresAt"].is_string(), "clients do not connect without it");
    let claims = claims(session["token"].as_str().unwrap());
    assert_eq!(claims["sub"], service.as_str());
    assert_eq!(claims["z_iid"], id.as_str());
    assert_eq!(claims["z_st"], "Dial");
    let again = alice.post("/sessions", body).await;
    assert_eq!(again.body["data"]["id"], session["id"]);

    let path = format!("{CLIENT}/sessions/{}", session["id"].as_str().unwrap());
    assert_eq!(alice.get(&path).await.status, 200);
    assert_eq!(alice.delete(&path).await.status, 200);
    alice.get(&path).await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_service_without_a_policy_is_as_unknown_as_none() {
    let lab = Lab::start().await;
    let service = with_service(&lab).await;
    let (_, credentials) = lab.identity("mallory", &[]).await;
    let mallory = lab.client(&credentials).await;
    assert_eq!(mallory.get("/services").await.body["data"], json!([]));
    for id in [service.as_str(), "unknown"] {
        let body = json!({ "serviceId": id, "type": "Dial" });
        let refused = mallory.post("/sessions", body).await;
        refused.assert_refused(404, "NOT_FOUND");
        mallory.get(&format!("/services/{id}")).await.assert_refused(404, "NOT_FOUND");
        let path = format!("/services/{id}/edge-routers");
        mallory.get(&path).await.assert_refused(404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn to_dial_is_not_to_bind() {
    let lab = Lab::start().await;
    let service = with_service(&lab).await;
    let (_, credentials) = lab.identity("bob", &["servers"]).await;
    let bob = lab.client(&credentials).await;
    let body = |kind: &str| json!({ "serviceId": service, "type": kind });
    assert_eq!(bob.post("/sessions", body("Bind")).await.status, 201);
    bob.post("/sessions", body("Dial")).await.assert_refused(404, "NOT_FOUND");
    bob.post("/sessions", body("Admin")).await.assert_refused(400, "COULD_NOT_PARSE_BODY");
}

#[tokio::test]
async fn a_session_ends_with_its_policy() {
    let lab = Lab::start().await;
    let service = with_service(&lab).await;
    let (_, credentials) = lab.identity("alice", &["staff"]).await;
    let alice = lab.client(&credentials).await;
    let before = alice.get("/current-api-session/service-updates").await.body["data"].clone();
    let body = json!({ "serviceId": service, "type": "Dial" });
    let session = alice.post("/sessions", body.clone()).await.body["data"]["id"].clone();
    let admin = lab.admin().await;
    let policies = admin.get(&format!("{MANAGEMENT}/service-policies?filter=name=\"dial\"")).await;
    let policy = policies.body["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(admin.delete(&format!("{MANAGEMENT}/service-policies/{policy}")).await.status, 200);
    let path = format!("/sessions/{}", session.as_str().unwrap());
    alice.get(&path).await.assert_refused(404, "NOT_FOUND");
    alice.post("/sessions", body).await.assert_refused(404, "NOT_FOUND");
    assert_eq!(alice.get("/services").await.body["data"], json!([]));
    let after = alice.get("/current-api-session/service-updates").await.body["data"].clone();
    assert_ne!(before, after, "clients list services again");
}

#[tokio::test]
async fn a_session_ends_with_its_identity() {
    let lab = Lab::start().await;
    let (id, credentials) = lab.identity("alice", &[]).await;
    let alice = lab.client(&credentials).await;
    lab.admin().await.delete(&format!("{MANAGEMENT}/identities/{id}")).await;
    alice.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    alice.post("/authenticate?method=cert", json!({})).await.assert_refused(401, "INVALID_AUTH");
}

#[tokio::test]
async fn a_session_ends_when_its_holder_says_so() {
    let lab = Lab::start().await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let alice = lab.client(&credentials).await;
    assert_eq!(alice.delete("/current-api-session").await.status, 200);
    alice.get("/current-api-session").await.assert_refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_stolen_token_is_no_use_without_the_certificate() {
    let lab = Lab::start().await;
    let (_, alices) = lab.identity("alice", &[]).await;
    let (_, mallorys) = lab.identity("mallory", &[]).await;
    let alice = lab.client(&alices).await;
    for thief in [lab.caller(Some(&mallorys)), lab.anybody()] {
        let mut thief = thief;
        thief.token.clone_from(&alice.token);
        thief.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn garbage_tokens_and_bodies_are_refused() {
    let lab = Lab::start().await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let mut alice = lab.client(&credentials).await;
    let deep = "[".repeat(30_000);
    for body in ["", "{", "null", "[]", "{\"serviceId\": 7}", deep.as_str()] {
        let answer = alice.post_text("/sessions", body.into()).await;
        answer.assert_refused(400, "COULD_NOT_PARSE_BODY");
    }
    alice.get("/services?limit=x").await.assert_refused(400, "INVALID_PAGINATION");
    alice.get("/services?filter=name=").await.assert_refused(400, "INVALID_FILTER");
    for token in ["", "x", "a.b.c", &"x".repeat(20_000)] {
        alice.token = Some(token.into());
        alice.get("/services").await.assert_refused(401, "UNAUTHORIZED");
    }
    alice.get("/nowhere").await.assert_refused(404, "NOT_FOUND");
    alice.delete("/services").await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn lists_come_in_pages_and_by_name() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    for index in 0..12 {
        admin.create("services", json!({ "name": format!("s{index:02}") })).await;
    }
    let all = json!({
        "name": "all", "type": "Dial", "semantic": "AnyOf",
        "identityRoles": ["#all"], "serviceRoles": ["#all"],
    });
    admin.create("service-policies", all).await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let alice = lab.client(&credentials).await;
    let names = |body: &Value| -> Vec<String> {
        let data = body["data"].as_array().unwrap();
        data.iter().map(|service| service["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = alice.get("/services?limit=5&offset=0").await.body;
    let last = alice.get("/services?limit=5&offset=10").await.body;
    assert_eq!(names(&first), ["s00", "s01", "s02", "s03", "s04"]);
    assert_eq!(names(&last), ["s10", "s11"]);
    assert_eq!(last["meta"]["pagination"], json!({ "limit": 5, "offset": 10, "totalCount": 12 }));
    let one = alice.get("/services?filter=name%3D%22s07%22&configTypes=all").await.body;
    assert_eq!(names(&one), ["s07"]);
    let none = alice.get("/services?filter=name=\"other\"").await.body;
    assert_eq!(names(&none), Vec::<String>::new());
}

#[tokio::test]
async fn posture_responses_are_taken() {
    let lab = Lab::start().await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let alice = lab.client(&credentials).await;
    for path in ["/posture-response", "/posture-response-bulk"] {
        assert_eq!(alice.post(path, json!([{ "id": "x", "typeId": "OS" }])).await.status, 201);
    }
}

#[tokio::test]
async fn only_the_certificate_whose_key_was_proven_counts() {
    let lab = Lab::start().await;
    let (_, alices) = lab.identity("alice", &[]).await;
    let (id, mut mallorys) = lab.identity("mallory", &[]).await;
    mallorys.chain.push_str(&alices.chain);
    let mallory = lab.client(&mallorys).await;
    assert_eq!(mallory.get("/current-identity").await.body["data"]["id"], id.as_str());
}
