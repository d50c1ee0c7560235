//! Identities for tests, all of one authority.

use std::sync::OnceLock;

use nightgate_identity::{Credentials, Identity};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

/// The credentials of an identity with this id.
pub(crate) fn identity(id: &str) -> Credentials {
    static AUTHORITY: OnceLock<(Issuer<'static, KeyPair>, String)> = OnceLock::new();
    let (issuer, pem) = AUTHORITY.get_or_init(|| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        (Issuer::new(params, key), certificate.pem())
    });
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, id);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer).unwrap().pem();
    let controller = "https://ctrl.example:443".into();
    let identity =
        Identity::new(controller, key.serialize_pem(), certificate, pem.clone()).unwrap();
    Credentials::new(&identity).unwrap()
}
