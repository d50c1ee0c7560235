//! The management interface over real TLS.

use crate::common::{Lab, MANAGEMENT, claims};
use nightgate_model::entity::{EdgeRouter, Identity, Service, ServicePolicy};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

#[tokio::test]
async fn entities_are_created_listed_shown_and_deleted() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let policy = json!({
        "name": "p", "type": "Dial", "semantic": "AllOf",
        "identityRoles": ["#all"], "serviceRoles": ["#internal"],
    });
    for (kind, body) in [
        ("identities", json!({ "name": "alice", "roleAttributes": ["staff"] })),
        ("edge-routers", json!({ "name": "hub" })),
        ("services", json!({ "name": "web", "encryptionRequired": false })),
        ("service-policies", policy),
    ] {
        let created = admin.create(kind, body.clone()).await;
        let path = format!("{MANAGEMENT}/{kind}");
        let name = body["name"].as_str().unwrap();
        let found = admin.get(&format!("{path}?filter=name=\"{name}\"")).await.body;
        assert_eq!(found["data"][0]["id"], created.id.as_str(), "{kind}");
        let one = format!("{path}/{}", created.id);
        assert_eq!(admin.get(&one).await.body["data"], found["data"][0], "{kind}");
        admin.post(&path, body).await.assert_refused(409, "CONFLICT");
        assert_eq!(admin.delete(&one).await.status, 200, "{kind}");
        admin.get(&one).await.assert_refused(404, "NOT_FOUND");
        admin.delete(&one).await.assert_refused(404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn answers_are_the_models_entities() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let identity = admin.create("identities", json!({ "name": "alice" })).await;
    let router =
        admin.create("edge-routers", json!({ "name": "gw", "isTunnelerEnabled": true })).await;
    let service = admin.create("services", json!({ "name": "web" })).await;
    let body = json!({
        "name": "p", "type": "Bind", "semantic": "AnyOf",
        "identityRoles": [format!("@{}", router.id)], "serviceRoles": [format!("@{}", service.id)],
    });
    let policy = admin.create("service-policies", body).await;
    let get = async |kind: &str, id: &str| {
        admin.get(&format!("{MANAGEMENT}/{kind}/{id}")).await.body["data"].clone()
    };
    assert_eq!(read::<Identity>(&get("identities", &identity.id).await).name, "alice");
    assert_eq!(read::<Identity>(&get("identities", &router.id).await).name, "gw");
    assert!(read::<EdgeRouter>(&get("edge-routers", &router.id).await).is_tunneler_enabled);
    assert!(read::<Service>(&get("services", &service.id).await).encryption_required);
    let policy: ServicePolicy = read(&get("service-policies", &policy.id).await);
    assert_eq!(policy.identity_roles[0].to_string(), format!("@{}", router.id));
}

#[tokio::test]
async fn the_enrollment_token_says_where_and_how() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    for (kind, method) in [("identities", "ott"), ("edge-routers", "erott")] {
        let created = admin.create(kind, json!({ "name": method })).await;
        let claims = claims(&created.enrollment_jwt.unwrap());
        assert_eq!(claims["iss"], "https://localhost:443");
        assert_eq!(claims["sub"], created.id.as_str());
        assert_eq!(claims["em"], method);
    }
}

#[tokio::test]
async fn only_administrators_manage() {
    let lab = Lab::start().await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let alice = lab.client(&credentials).await;
    for path in ["identities", "edge-routers", "services", "service-policies", "terminators"] {
        alice.get(&format!("{MANAGEMENT}/{path}")).await.assert_refused(403, "FORBIDDEN");
    }
    let body = json!({ "name": "mallory", "isAdmin": true });
    alice.post(&format!("{MANAGEMENT}/identities"), body).await.assert_refused(403, "FORBIDDEN");
}

#[tokio::test]
async fn an_administrator_remains() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let found = admin.get(&format!("{MANAGEMENT}/identities?filter=name=\"admin\"")).await.body;
    let path = format!("{MANAGEMENT}/identities/{}", found["data"][0]["id"].as_str().unwrap());
    admin.delete(&path).await.assert_refused(409, "CONFLICT");
}

#[tokio::test]
async fn a_routers_identity_goes_with_the_router() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let body = json!({ "name": "gw", "isTunnelerEnabled": true, "roleAttributes": ["gateways"] });
    let id = admin.create("edge-routers", body).await.id;
    let identity = format!("{MANAGEMENT}/identities/{id}");
    admin.delete(&identity).await.assert_refused(409, "CONFLICT");
    assert_eq!(admin.delete(&format!("{MANAGEMENT}/edge-routers/{id}")).await.status, 200);
    admin.get(&identity).await.assert_refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn mistakes_are_refused_where_they_are_made() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let policy = |role: &str| {
        json!({
            "name": "p", "type": "Dial", "semantic": "AnyOf",
            "identityRoles": [role], "serviceRoles": [],
        })
    };
    for (kind, body, code) in [
        ("identities", json!({ "name": "" }), "COULD_NOT_VALIDATE"),
        ("identities", json!({ "name": "#staff" }), "COULD_NOT_VALIDATE"),
        ("identities", json!({ "name": "x".repeat(256) }), "COULD_NOT_VALIDATE"),
        ("identities", json!({ "name": "a\u{0}b" }), "COULD_NOT_VALIDATE"),
        ("identities", json!({ "name": "a", "roleAttributes": ["#staff"] }), "COULD_NOT_VALIDATE"),
        ("identities", json!({ "name": "a", "roleAttributes": ["all"] }), "COULD_NOT_VALIDATE"),
        ("identities", json!({ "name": "a", "isadmin": true }), "COULD_NOT_PARSE_BODY"),
        ("edge-routers", json!({ "name": "a", "roleAttributes": ["#x"] }), "COULD_NOT_VALIDATE"),
        (
            "services",
            json!({ "name": "a", "config": { "host.v1": { "port": 80 } } }),
            "COULD_NOT_VALIDATE",
        ),
        ("service-policies", policy("@nobody"), "COULD_NOT_VALIDATE"),
        ("service-policies", policy("staff"), "COULD_NOT_PARSE_BODY"),
    ] {
        let answer = admin.post(&format!("{MANAGEMENT}/{kind}"), body).await;
        answer.assert_refused(400, code);
    }
}

#[tokio::test]
async fn an_explanation_names_what_is_missing() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    lab.identity("alice", &["staff"]).await;
    admin.create("services", json!({ "name": "web" })).await;
    let explain = async |identity: &str, kind: &str| {
        let path = format!("{MANAGEMENT}/explain?identity={identity}&service=web&type={kind}");
        admin.get(&path).await.body["data"].clone()
    };
    let answer = explain("alice", "Dial").await;
    assert_eq!(answer["allowed"], false);
    assert_eq!(answer["verdict"], "alice cannot dial web: there is no Dial policy");
    let body = json!({
        "name": "sales-web", "type": "Dial", "semantic": "AllOf",
        "identityRoles": ["#staff", "#sales"], "serviceRoles": ["#all"],
    });
    admin.create("service-policies", body).await;
    let answer = explain("alice", "Dial").await;
    assert_eq!(answer["verdict"], "alice cannot dial web: sales-web: alice lacks #sales");
    let answer = explain("nobody", "Dial").await;
    assert_eq!(answer["verdict"], "nobody cannot dial web: there is no identity nobody");
    let path = format!("{MANAGEMENT}/explain?identity=alice&service=web&type=Fly");
    admin.get(&path).await.assert_refused(400, "INVALID_QUERY");
}
