//! The authority's directory and the certificates it signs.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod rollover;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use base64::prelude::*;
use cms::{content_info::ContentInfo, signed_data::SignedData};
use der::{Decode as _, Encode as _};
use nightgate_model::{
    id::{IdentityId, RouterId},
    token::{EnrollmentClaims, EnrollmentMethod, JwtAlgorithm},
};
use nightgate_pki::{Authority, PkiError, RequestError, TokenError, fingerprint};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn names(names: &[&str]) -> Vec<ServerName<'static>> {
    names.iter().map(|name| ServerName::try_from((*name).to_owned()).unwrap()).collect()
}

fn open(dir: &Path) -> Result<Authority, PkiError> {
    Authority::open(dir, &names(&["ctrl.example", "192.0.2.1", "2001:db8::1"]), now())
}

fn request() -> String {
    let key = KeyPair::generate().unwrap();
    CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

fn verifies(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
    let (_, issuer) = X509Certificate::from_der(issuer).unwrap();
    certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

#[test]
fn a_second_start_finds_what_the_first_made() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let first = open(&pki).unwrap();
    let second = open(&pki).unwrap();
    assert_eq!(first.server().chain, second.server().chain);
    assert_eq!(first.bundle().pem(), second.bundle().pem());
    assert_eq!(first.session_key().public_key_pem(), second.session_key().public_key_pem());
}

#[test]
fn keys_are_readable_by_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap();
    for name in ["root.key", "intermediate.key", "server.key", "token.key"] {
        let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn the_server_certificate_chains_to_the_root_and_names_every_host() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    let chain = authority.server().chain;
    let [root, intermediate] = authority.trust_anchors().try_into().unwrap();
    assert_eq!(chain[1], intermediate);
    assert!(verifies(&chain[0], &intermediate));
    assert!(verifies(&intermediate, &root));
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(san.value.general_names.len(), 3);
}

#[test]
fn another_host_name_renews_the_server_certificate_with_the_same_key() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let second = Authority::open(dir.path(), &names(&["other.example"]), now()).unwrap();
    assert_ne!(first.server().chain[0], second.server().chain[0]);
    assert_eq!(first.server().key.secret_der(), second.server().key.secret_der());
}

#[test]
fn a_server_certificate_near_its_end_is_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = names(&["ctrl.example"]);
    let first = Authority::open(dir.path(), &hosts, now()).unwrap();
    let later = Authority::open(dir.path(), &hosts, now() + Duration::days(320)).unwrap();
    assert_ne!(first.server().chain[0], later.server().chain[0]);
}

#[test]
fn a_crash_between_key_and_certificate_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap();
    fs::remove_file(dir.path().join("server.crt")).unwrap();
    open(dir.path()).unwrap();
    fs::remove_file(dir.path().join("intermediate.crt")).unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn the_roots_key_may_be_kept_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap();
    fs::remove_file(dir.path().join("root.key")).unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn a_lost_root_is_an_error_and_not_a_new_root() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap();
    fs::remove_file(dir.path().join("root.crt")).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, PkiError::Missing { .. }), "{error}");
}

#[test]
fn damaged_and_foreign_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap();
    fs::copy(dir.path().join("token.key"), dir.path().join("intermediate.key")).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, PkiError::Mismatch { .. }), "{error}");
    fs::write(dir.path().join("intermediate.crt"), "garbage").unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(error.to_string().contains("intermediate.crt: expected"), "{error}");
}

#[test]
fn an_expired_root_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap();
    let late = now() + Duration::days(21 * 365);
    let error = Authority::open(dir.path(), &names(&["a"]), late).err().unwrap();
    assert!(matches!(error, PkiError::Expired { .. }), "{error}");
}

#[test]
fn an_identity_gets_a_client_certificate_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    let id = IdentityId::new("abc");
    let issued = authority.sign_identity(request().as_bytes(), &id, now()).unwrap();
    let chain = certificates(&issued.chain_pem);
    assert_eq!(chain.len(), 2);
    assert_eq!(issued.fingerprint, fingerprint(&chain[0]));
    assert!(verifies(&chain[0], &chain[1]));
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    assert!(!leaf.is_ca());
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    let [GeneralName::URI(uri)] = san.value.general_names.as_slice() else {
        panic!("expected one URI, found {san:?}")
    };
    assert!(uri.starts_with("spiffe://") && uri.ends_with("/identity/abc"), "{uri}");
}

#[test]
fn a_request_cannot_choose_its_names_or_become_a_ca() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["ctrl.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let id = IdentityId::new("abc");
    let issued = authority.sign_identity(request.as_bytes(), &id, now()).unwrap();
    let chain = certificates(&issued.chain_pem);
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    assert!(!leaf.is_ca());
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
}

#[test]
fn a_router_may_serve_its_host() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    let host = ServerName::try_from("router.example").unwrap();
    let id = RouterId::new("r1");
    let issued = authority.sign_router(request().as_bytes(), &id, Some(&host), now()).unwrap();
    let chain = certificates(&issued.chain_pem);
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth);
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(san.value.general_names.contains(&GeneralName::DNSName("router.example")));
}

#[test]
fn garbage_requests_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    let id = IdentityId::new("abc");
    assert_eq!(
        authority.sign_identity(b"garbage", &id, now()).err(),
        Some(RequestError::Malformed)
    );
}

#[test]
fn the_bundle_is_a_certs_only_message_with_both_cas() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    let der = BASE64_STANDARD.decode(authority.bundle().pkcs7()).unwrap();
    let message = ContentInfo::from_der(&der).unwrap();
    let signed: SignedData = message.content.decode_as().unwrap();
    let found: Vec<_> = signed
        .certificates
        .unwrap()
        .0
        .iter()
        .map(|certificate| certificate.to_der().unwrap())
        .collect();
    for anchor in authority.trust_anchors() {
        assert!(found.contains(&anchor.to_vec()));
    }
    assert_eq!(certificates(authority.bundle().pem()).len(), 2);
}

#[test]
fn an_enrollment_token_verifies_against_the_tls_leaf() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    let token = authority.sign_enrollment(&enrollment(), JwtAlgorithm::Es256).unwrap();
    let chain = authority.server().chain;
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let point = &leaf.public_key().subject_public_key.data;
    let key = jsonwebtoken::DecodingKey::from_ec_components(
        &BASE64_URL_SAFE_NO_PAD.encode(&point[1..33]),
        &BASE64_URL_SAFE_NO_PAD.encode(&point[33..65]),
    )
    .unwrap();
    assert_eq!(verified(&token, &key, jsonwebtoken::Algorithm::ES256), enrollment());
}

#[test]
fn a_token_for_legacy_clients_verifies_against_the_leaf_they_get() {
    let dir = tempfile::tempdir().unwrap();
    let leaf = |authority: &Authority| authority.legacy_server().unwrap().chain[0].clone();
    let authority = open_with_legacy(dir.path());
    let token = authority.sign_enrollment(&enrollment(), JwtAlgorithm::Rs256).unwrap();
    // The key is kept: a token outlives a restart.
    let again = open_with_legacy(dir.path());
    assert_eq!(leaf(&authority), leaf(&again));
    let leaf = leaf(&again);
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let key = jsonwebtoken::DecodingKey::from_rsa_der(&leaf.public_key().subject_public_key.data);
    assert_eq!(verified(&token, &key, jsonwebtoken::Algorithm::RS256), enrollment());
}

#[test]
fn without_legacy_clients_there_is_no_rs256() {
    let dir = tempfile::tempdir().unwrap();
    let refused =
        open(dir.path()).unwrap().sign_enrollment(&enrollment(), JwtAlgorithm::Rs256).unwrap_err();
    assert!(matches!(refused, TokenError::NoLegacyKey), "{refused:?}");
}

fn open_with_legacy(dir: &Path) -> Authority {
    let mut authority = open(dir).unwrap();
    authority.open_legacy_server(dir, &names(&["ctrl.example"]), now()).unwrap();
    authority
}

fn enrollment() -> EnrollmentClaims {
    EnrollmentClaims {
        iss: "https://ctrl.example:443".into(),
        sub: "abc".into(),
        aud: vec![String::new()],
        exp: now().unix_timestamp() + 60,
        jti: "token".into(),
        em: EnrollmentMethod::Ott,
    }
}

fn verified(
    token: &str,
    key: &jsonwebtoken::DecodingKey,
    algorithm: jsonwebtoken::Algorithm,
) -> EnrollmentClaims {
    let mut validation = jsonwebtoken::Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode::<EnrollmentClaims>(token, key, &validation).unwrap().claims
}
