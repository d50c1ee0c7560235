//! Clients that speak TLS 1.2 and verify RS256 only.

use std::sync::Arc;

use crate::common::{CLIENT, Lab, MANAGEMENT, tls_of};
use rustls::{
    ClientConfig,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::{oid_registry, prelude::*};

#[tokio::test]
async fn by_default_they_are_not_served() {
    let lab = Lab::start().await;
    assert!(presented(&lab, tls_of(&TLS12, &lab.ca, None, &[])).await.is_err());
    let path = format!("{MANAGEMENT}/identities?jwtAlgorithm=RS256");
    let refused = lab.admin().await.post(&path, json!({ "name": "old" })).await;
    refused.assert_refused(409, "CONFLICT");
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("--legacy-clients"));
    lab.admin().await.create("identities", json!({ "name": "old" })).await;
}

#[tokio::test]
async fn an_unknown_algorithm_is_refused() {
    let lab = Lab::start_legacy().await;
    for algorithm in ["HS256", "none", ""] {
        let path = format!("{MANAGEMENT}/identities?jwtAlgorithm={algorithm}");
        let refused = lab.admin().await.post(&path, json!({ "name": "old" })).await;
        refused.assert_refused(400, "COULD_NOT_VALIDATE");
    }
}

#[tokio::test]
async fn each_gets_the_certificate_whose_tokens_it_can_verify() {
    let lab = Lab::start_legacy().await;
    let keys = [
        (&TLS12, oid_registry::OID_PKCS1_RSAENCRYPTION),
        (&TLS13, oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY),
    ];
    for (version, expected) in keys {
        let leaf = presented(&lab, tls_of(version, &lab.ca, None, &[])).await.unwrap();
        let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
        assert_eq!(leaf.public_key().algorithm.algorithm, expected);
    }
}

#[tokio::test]
async fn they_enroll_and_authenticate() {
    let lab = Lab::start_legacy().await;
    let admin = lab.admin().await;
    let path = "identities?jwtAlgorithm=RS256";
    let created = admin.create(path, json!({ "name": "old" })).await;
    let header = created.enrollment_jwt.as_ref().unwrap().split('.').next().unwrap();
    // {"typ":"JWT","alg":"RS256"}
    assert_eq!(header, "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9");
    let credentials = lab.enroll_identity(&created).await;
    let mut old = lab.caller_by(tls_of(&TLS12, &lab.ca, Some(&credentials), &[]));
    old.authenticate(CLIENT).await;
    assert_eq!(old.get("/current-identity").await.body["data"]["name"], "old");
}

/// The certificate that the controller presents.
async fn presented(lab: &Lab, tls: ClientConfig) -> std::io::Result<CertificateDer<'static>> {
    let tcp = TcpStream::connect(lab.address()).await?;
    let name = ServerName::from(lab.address().ip());
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
    let (_, session) = stream.get_ref();
    Ok(session.peer_certificates().unwrap()[0].clone().into_owned())
}
