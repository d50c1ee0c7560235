//! Identities whose certificates come from somebody else's CA.

use nightgate_sdk::{Context, enroll_password, enroll_with_certificate};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{echo, support::Overlay};

type Acme = CertifiedIssuer<'static, KeyPair>;

fn acme() -> Acme {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "Acme root");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A key and a certificate with this common name.
fn certify(acme: &Acme, common_name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    (key.serialize_pem(), params.signed_by(&key, acme).unwrap().pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_registered_ca_enrolls_and_dials_through_a_router() {
    let overlay = Overlay::start().await;
    let (operator, acme) = (&overlay.operator, acme());
    let ca = operator
        .create(
            "cas",
            &json!({
                "name": "acme", "certPem": acme.pem(), "identityRoles": ["echo-dial"], "isAuthEnabled": true,
                "isAutoCaEnrollmentEnabled": true, "isOttCaEnrollmentEnabled": true,
                "identityNameFormat": "[requestedName]",
            }),
        )
        .await
        .id;
    operator.post_text(&format!("cas/{ca}/verify"), certify(&acme, &ca).1).await;
    operator.create_service("echo", true).await;
    let body = json!({
        "name": "host", "roleAttributes": ["echo-host"], "enrollment": { "ottca": ca },
    });
    let token = operator.create("identities", &body).await.enrollment_jwt.unwrap();

    let (key, certificate) = certify(&acme, "whatever");
    let host = enroll_with_certificate(&token, &key, &certificate, None).await.unwrap();
    let host = Context::load(&host).await.unwrap();
    let echo = tokio::spawn(echo(host.bind("echo").await.unwrap()));
    let token = operator.get_text(&format!("cas/{ca}/jwt")).await;
    let (key, certificate) = certify(&acme, "laptop");
    let client = enroll_with_certificate(&token, &key, &certificate, Some("bob")).await.unwrap();
    let client = Context::load(&client).await.unwrap();
    assert_eq!(client.identity_name(), "bob");
    let mut stream = client.dial("echo").await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();

    assert_eq!(answer, "hello");
    echo.abort();
    overlay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_set_by_its_token() {
    let overlay = Overlay::start().await;
    let body = json!({ "name": "bob", "enrollment": { "updb": "bob" } });
    let token = overlay.operator.create("identities", &body).await.enrollment_jwt.unwrap();
    enroll_password(&token, "correct horse").await.unwrap();
    assert!(enroll_password(&token, "correct horse").await.is_err());
    overlay.stop().await;
}
