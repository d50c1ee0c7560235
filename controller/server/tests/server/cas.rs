//! Certificate authorities of others: registered, verified, and what their certificates are good for.

use nightgate_model::api::Created;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde_json::{Value, json};

use crate::common::{Caller, Credentials, Lab, MANAGEMENT, claims, one_time_token};

/// Somebody else's CA.
pub(crate) struct Acme(CertifiedIssuer<'static, KeyPair>);

impl Acme {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "Acme root");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate with this common name, and its key.
    pub(crate) fn certify(&self, common_name: &str) -> Credentials {
        self.certify_with(common_name, |_| {})
    }

    /// As [`Self::certify`], for a certificate that ended long ago.
    pub(crate) fn certify_long_ago(&self, common_name: &str) -> Credentials {
        self.certify_with(common_name, |params| params.not_after = date_time_ymd(2020, 1, 1))
    }

    fn certify_with(
        &self,
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        change(&mut params);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        Credentials { key: key.serialize_pem(), chain }
    }

    /// Registers and verifies it.
    pub(crate) async fn register(&self, admin: &Caller, flags: Value) -> String {
        let mut body = json!({
            "name": "acme", "certPem": self.0.pem(), "isAuthEnabled": true, "identityRoles": ["acme"],
        });
        body.as_object_mut().unwrap().extend(flags.as_object().unwrap().clone());
        let id = admin.create("cas", body).await.id;
        let (path, ca) = admin.find("cas", "acme").await;
        let proof = self.certify(ca["verificationToken"].as_str().unwrap()).chain;
        let answer = admin.post_text(&format!("{path}/verify"), proof).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        id
    }
}

#[tokio::test]
async fn a_ca_counts_for_nothing_before_somebody_proves_to_hold_its_key() {
    let lab = Lab::start().await;
    let (acme, other) = (Acme::new(), Acme::new());
    let admin = lab.admin().await;
    let body =
        json!({ "name": "acme", "certPem": acme.0.pem(), "isAutoCaEnrollmentEnabled": true });
    let id = admin.create("cas", body).await.id;
    let (path, ca) = admin.find("cas", "acme").await;
    assert_eq!((&ca["isVerified"], &ca["verificationToken"]), (&json!(false), &json!(id)));
    // Such a certificate does not even get through the handshake.
    let laptop = acme.certify("laptop");
    lab.caller(Some(&laptop)).try_get("/version").await.unwrap_err();
    let wrong = [
        (other.certify(&id).chain, "signed by another CA"),
        (acme.certify("another token").chain, "another token"),
        ("garbage".into(), "garbage"),
        (acme.0.pem(), "its own certificate"),
    ];
    for (proof, what) in wrong {
        let answer = admin.post_text(&format!("{path}/verify"), proof).await;
        assert_eq!(answer.body["error"]["code"], "INVALID_CERTIFICATE", "{what}");
    }
    let proof = acme.certify(&id).chain;
    assert_eq!(admin.post_text(&format!("{path}/verify"), proof).await.status, 200);
    let (_, ca) = admin.find("cas", "acme").await;
    assert_eq!((&ca["isVerified"], &ca["verificationToken"]), (&json!(true), &json!(null)));
    lab.caller(Some(&laptop)).try_get("/version").await.unwrap();
}

#[tokio::test]
async fn whoever_holds_a_certificate_of_an_open_ca_becomes_an_identity_once() {
    let lab = Lab::start().await;
    let (acme, admin) = (Acme::new(), lab.admin().await);
    let id = acme.register(&admin, json!({ "isAutoCaEnrollmentEnabled": true })).await;
    let jwt = admin.get(&format!("{MANAGEMENT}/cas/{id}/jwt")).await.body;
    assert_eq!(claims(jwt.as_str().unwrap())["em"], "ca");
    let laptop = acme.certify("laptop-7");
    let caller = lab.caller(Some(&laptop));
    caller.post("/authenticate?method=cert", json!({})).await.assert_refused(401, "INVALID_AUTH");
    let answer = caller.post("/enroll?method=ca", json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    caller.post("/enroll/ca", json!({})).await.assert_refused(409, "CONFLICT");
    let client = lab.client(&laptop).await;
    let own = client.get("/current-identity").await.body["data"].take();
    assert_eq!(
        (&own["name"], &own["roleAttributes"]),
        (&json!("acme - laptop-7"), &json!(["acme"]))
    );
    // A second certificate with the same name is another identity.
    let twin = lab.caller(Some(&acme.certify("laptop-7")));
    assert_eq!(twin.post("/enroll?method=ca", json!({ "name": "x" })).await.status, 200);
    admin.find("identities", "acme - laptop-7 2").await;
    // Our own certificates, and no certificate, enroll nobody.
    let (_, own) = lab.identity("alice", &[]).await;
    for caller in [lab.anybody(), lab.caller(Some(&own))] {
        let refused = caller.post("/enroll?method=ca", json!({})).await;
        refused.assert_refused(400, "INVALID_CERTIFICATE");
    }
}

#[tokio::test]
async fn a_closed_ca_enrolls_nobody_and_says_no_more_than_an_unknown_one() {
    let lab = Lab::start().await;
    let (acme, admin) = (Acme::new(), lab.admin().await);
    acme.register(&admin, json!({})).await;
    let caller = lab.caller(Some(&acme.certify("laptop")));
    let closed = caller.post("/enroll?method=ca", json!({})).await;
    let nobody = lab.anybody().post("/enroll?method=ca", json!({})).await;
    closed.assert_refused(400, "INVALID_CERTIFICATE");
    assert_eq!(closed.body["error"]["message"], nobody.body["error"]["message"]);
    let body = json!({ "name": "bob", "enrollment": { "ottca": "acme" } });
    let refused = admin.post(&format!("{MANAGEMENT}/identities"), body).await;
    refused.assert_refused(400, "COULD_NOT_VALIDATE");
}

#[tokio::test]
async fn a_token_for_a_ca_takes_a_certificate_of_that_ca_only() {
    let lab = Lab::start().await;
    let (acme, admin) = (Acme::new(), lab.admin().await);
    let ca = acme.register(&admin, json!({ "isOttCaEnrollmentEnabled": true })).await;
    let body = json!({ "name": "bob", "enrollment": { "ottca": ca } });
    let created: Created = admin.create("identities", body).await;
    assert_eq!(claims(created.enrollment_jwt.as_ref().unwrap())["em"], "ottca");
    let token = one_time_token(&created);
    let path = format!("/enroll?method=ottca&token={token}");
    lab.anybody().post(&path, json!({})).await.assert_refused(400, "INVALID_CERTIFICATE");
    let (_, own) = lab.identity("alice", &[]).await;
    let refused = lab.caller(Some(&own)).post(&path, json!({})).await;
    refused.assert_refused(400, "INVALID_CERTIFICATE");
    // Another method with the same token is refused as any unknown token.
    let csr = crate::common::request().1;
    let as_ott = lab.anybody().post_text(&format!("/enroll?method=ott&token={token}"), csr).await;
    as_ott.assert_refused(400, "INVALID_ENROLLMENT_TOKEN");
    let laptop = acme.certify("whatever");
    let enrolled = lab.caller(Some(&laptop)).post("/enroll/ottca", json!({ "token": token })).await;
    assert_eq!(enrolled.status, 200, "{}", enrolled.body);
    let bob = lab.client(&laptop).await;
    assert_eq!(bob.get("/current-identity").await.body["data"]["id"], created.id.as_str());
}

#[tokio::test]
async fn an_identity_goes_where_its_ca_goes() {
    let lab = Lab::start().await;
    let (acme, admin) = (Acme::new(), lab.admin().await);
    acme.register(&admin, json!({ "isAutoCaEnrollmentEnabled": true })).await;
    let laptop = acme.certify("laptop");
    let caller = lab.caller(Some(&laptop));
    assert_eq!(caller.post("/enroll?method=ca", json!({})).await.status, 200);
    let client = lab.client(&laptop).await;
    let (path, _) = admin.find("cas", "acme").await;
    assert_eq!(admin.patch(&path, json!({ "isAuthEnabled": false })).await.status, 200);
    client.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    caller.post("/authenticate?method=cert", json!({})).await.assert_refused(401, "INVALID_AUTH");
    assert_eq!(admin.patch(&path, json!({ "isAuthEnabled": true })).await.status, 200);
    assert_eq!(client.get("/current-identity").await.status, 200);
    let changed = admin.patch(&path, json!({ "certPem": Acme::new().0.pem() })).await;
    changed.assert_refused(409, "CONFLICT");
    assert_eq!(admin.delete(&path).await.status, 200);
    client.get("/current-identity").await.assert_refused(401, "UNAUTHORIZED");
    lab.caller(Some(&laptop)).try_get("/version").await.unwrap_err();
    let (_, identity) = admin.find("identities", "acme - laptop").await;
    assert_eq!(identity["fingerprint"], json!(null));
}

#[tokio::test]
async fn what_is_no_ca_is_not_registered() {
    let lab = Lab::start().await;
    let admin = lab.admin().await;
    let acme = Acme::new();
    let two = acme.0.pem() + &Acme::new().0.pem();
    for pem in [acme.certify("leaf").chain, "garbage".into(), two, String::new()] {
        let body = json!({ "name": "acme", "certPem": pem });
        let refused = admin.post(&format!("{MANAGEMENT}/cas"), body).await;
        refused.assert_refused(400, "INVALID_CERTIFICATE");
    }
}

/// GHSA-hhm9, GHSA-mrpr, GHSA-cc5m: who a peer is comes from the certificate whose key it proved, not from
/// another one that it sends along.
#[tokio::test]
async fn a_certificate_behind_the_proven_one_is_nobody() {
    let lab = Lab::start().await;
    let (acme, admin) = (Acme::new(), lab.admin().await);
    acme.register(&admin, json!({ "isAutoCaEnrollmentEnabled": true })).await;
    let (_, alice) = lab.identity("alice", &[]).await;
    let mallory = acme.certify("mallory");
    let both = Credentials { key: mallory.key.clone(), chain: mallory.chain + &alice.chain };
    let caller = lab.caller(Some(&both));
    caller.post("/authenticate?method=cert", json!({})).await.assert_refused(401, "INVALID_AUTH");
    assert_eq!(caller.post("/enroll?method=ca", json!({})).await.status, 200);
    let client = lab.client(&both).await;
    assert_eq!(client.get("/current-identity").await.body["data"]["name"], "acme - mallory");
}
