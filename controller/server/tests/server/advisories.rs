//! What was found wrong with OpenZiti, by the numbers of its advisories. Others stand where they belong:
//! GHSA-7868 in the SDK's tests, GHSA-q8g9 and GHSA-j952 in `limits`, GHSA-hhm9, GHSA-mrpr and GHSA-cc5m in `cas`,
//! GHSA-6v5r in `authenticators`.

use std::{net::TcpListener, time::Duration};

use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{CLIENT, Lab, MANAGEMENT, claims};

/// GHSA-4h58: no token of somebody else enrolls or authenticates anybody, whatever its issuer and audience; and
/// none of ours does for what it was not made.
#[tokio::test]
async fn ghsa_4h58_tokens_count_only_where_they_were_made_for() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let created = admin.create("identities", json!({ "name": "alice" })).await;
    let enrollment = created.enrollment_jwt.clone().unwrap();
    let session = admin.token.clone().unwrap();
    let mut claims = claims(&enrollment);
    let forged = encode(&Header::default(), &claims, &EncodingKey::from_secret(b"x")).unwrap();
    claims["iss"] = "https://elsewhere.example".into();
    let foreign = encode(&Header::default(), &claims, &EncodingKey::from_secret(b"x")).unwrap();
    for token in [&enrollment, &session, &forged, &foreign] {
        for path in ["/enroll?method=token", "/enroll/token", "/authenticate?method=ext-jwt"] {
            let body = json!({ "token": token }).to_string();
            let answer = lab.anybody().call(Method::POST, path, &body).await;
            assert!([400, 404].contains(&answer.status.as_u16()), "{path}: {}", answer.body);
        }
        // The whole token is no one-time token, either.
        let path = format!("/enroll?method=ott&token={token}");
        assert_eq!(lab.anybody().post(&path, json!({})).await.status, 400);
    }
    for token in [&enrollment, &forged, &foreign] {
        let mut caller = lab.anybody();
        caller.token = Some(token.clone());
        caller.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    }
    let credentials = lab.enroll_identity(&created).await;
    lab.client(&credentials).await;
}

/// GHSA-whjr: nobody makes the controller fetch an address of their choice.
#[tokio::test]
async fn ghsa_whjr_the_controller_asks_no_address_that_it_is_given() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks.json", trap.local_addr().unwrap());
    let signer = json!({
        "name": "idp", "issuer": url, "audience": "x", "enabled": true, "jwksEndpoint": url,
        "externalAuthUrl": url, "clientId": "x",
    });
    for path in ["ext-jwt-signers", "external-jwt-signers", "jwks"] {
        let answer = admin.post(&format!("{MANAGEMENT}/{path}"), signer.clone()).await;
        answer.assert_refused(404, "NOT_FOUND");
    }
    let primary = json!({ "extJwt": { "allowed": true, "allowedSigners": [url] } });
    let policy = json!({ "name": "p", "primary": primary });
    let refused = admin.post(&format!("{MANAGEMENT}/auth-policies"), policy).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    let header = Header { jku: Some(url.clone()), x5u: Some(url), ..Header::default() };
    let mut caller = lab.anybody();
    caller.token = Some(encode(&header, &json!({}), &EncodingKey::from_secret(b"x")).unwrap());
    caller.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    trap.set_nonblocking(true).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(trap.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// GHSA-354c: posture without times, or that is no posture at all, harms nothing.
#[tokio::test]
async fn ghsa_354c_posture_without_times_is_taken_and_harms_nothing() {
    let lab = Lab::start().await;
    let (_, credentials) = lab.identity("alice", &[]).await;
    let client = lab.client(&credentials).await;
    let bodies = [
        json!({ "id": "x", "typeId": "PROCESS", "signerFingerprints": null, "updatedAt": null }),
        json!({ "typeId": "ENDPOINT_STATE", "unlocked": { "time": null }, "woken": null }),
        json!([{ "typeId": "MFA", "lastUpdatedAt": null }, null]),
        Value::Null,
    ];
    for body in bodies {
        for path in ["posture-response", "posture-response-bulk"] {
            for prefix in ["", CLIENT] {
                let answer = client.post(&format!("{prefix}/{path}"), body.clone()).await;
                assert_eq!(answer.status, 201, "{path}: {}", answer.body);
            }
        }
    }
    assert_eq!(client.get("/current-identity").await.status, 200);
}

/// Tokens are verified with the published keys (RFC 7517), and those hold nothing secret.
#[tokio::test]
async fn the_published_keys_verify_tokens() {
    let lab = Lab::start_legacy().await;
    let admin = lab.admin().await;
    let keys = lab.anybody().get("/.well-known/jwks.json").await.body;
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(keys.clone()).unwrap();
    assert_eq!(set.keys.len(), 3);
    for key in keys["keys"].as_array().unwrap() {
        for secret in ["d", "p", "q", "k"] {
            assert!(key.get(secret).is_none(), "{key}");
        }
    }
    let session = admin.token.clone().unwrap();
    let created = admin.create("identities", json!({ "name": "alice" })).await;
    let enrollment = created.enrollment_jwt.unwrap();
    for (token, key) in [(session, &set.keys[0]), (enrollment, &set.keys[1])] {
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
        validation.validate_aud = false;
        let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
        jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap();
    }
}
