//! Proof of an identity to another one, outside of TLS: signatures by the key of a certificate.

use std::{fmt, sync::Arc};

use rustls::{
    SignatureScheme, crypto::WebPkiSupportedAlgorithms, server::WebPkiClientVerifier,
    server::danger::ClientCertVerifier, sign::SigningKey,
};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{Identity, TlsSetupError, believed::Believed, fingerprint, provider};

/// How an identity's key may sign, preferred first; the names and numbers are those of TLS 1.3
/// (RFC 8446 section 4.2.3).
const SCHEMES: [SignatureScheme; 5] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
];

/// An identity's key and certificates, and the authority that the others must have theirs from.
pub struct Credentials {
    id: String,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
    authority: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
    believed: Believed,
}

/// A signature, and how it was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signature {
    /// Number of the scheme (RFC 8446 section 4.2.3).
    pub scheme: u16,
    /// The signature itself, in the scheme's form.
    pub bytes: Vec<u8>,
}

/// Who proved to be what.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ProvenIdentity {
    /// The common name of the certificate: the id of the identity or router it was issued to.
    pub id: String,
    /// SHA-1 of the certificate, lower-case hex: OpenZiti's name for it.
    pub fingerprint: String,
}

/// Credentials that prove nothing.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The key or the certificates do not do.
    #[error(transparent)]
    Setup(#[from] TlsSetupError),
    /// The other identities would not believe this one.
    #[error("the identity's own certificate is not one of its authority's")]
    Own(#[from] ProofError),
    /// The key signs in none of the ways that the others know.
    #[error("the identity's key can make no signature that others verify")]
    Key,
}

/// A proof that is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// No certificate, or not one at all.
    #[error("the certificate cannot be read")]
    Malformed,
    /// The certificate is not the authority's, has expired, or is not meant for clients.
    #[error("the certificate was not issued by the overlay's authority, or has expired")]
    Untrusted,
    /// The certificate names nobody.
    #[error("the certificate has no common name")]
    Nameless,
    /// Another key signed, or something else was signed.
    #[error("the signature is not by the key of the certificate")]
    Signature,
}

impl Credentials {
    /// The credentials of an identity.
    ///
    /// # Errors
    /// Key or certificates do not do, or the identity's own certificate is not one that its trusted
    /// certificates vouch for, so that nobody would believe it.
    pub fn new(identity: &Identity) -> Result<Self, CredentialsError> {
        let chain = identity.certificates().map_err(TlsSetupError::from)?;
        let key = identity.private_key().map_err(TlsSetupError::from)?;
        let provider = provider();
        let key = provider.key_provider.load_private_key(key).map_err(TlsSetupError::from)?;
        key.choose_scheme(&SCHEMES).ok_or(CredentialsError::Key)?;
        let authority = WebPkiClientVerifier::builder_with_provider(
            Arc::new(identity.roots()?),
            Arc::clone(&provider),
        )
        .build()
        .map_err(TlsSetupError::from)?;
        let mut credentials = Self {
            id: String::new(),
            chain,
            key,
            authority,
            algorithms: provider.signature_verification_algorithms,
            believed: Believed::default(),
        };
        credentials.id = credentials.authenticate(&credentials.chain, UnixTime::now())?.id;
        Ok(credentials)
    }

    /// The id that the certificate proves.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The certificate, then its issuers.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Signs. `None` if the key fails, which it does not unless it is kept outside this process.
    pub fn sign(&self, message: &[u8]) -> Option<Signature> {
        let signer = self.key.choose_scheme(&SCHEMES)?;
        let bytes = signer.sign(message).ok()?;
        Some(Signature { scheme: signer.scheme().into(), bytes })
    }

    /// Checks that the owner of the first certificate of `chain`, which must be the authority's and
    /// valid at `now`, has signed `message`.
    ///
    /// # Errors
    /// See [`ProofError`].
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        message: &[u8],
        signature: &Signature,
        now: UnixTime,
    ) -> Result<ProvenIdentity, ProofError> {
        let proven = self.authenticate(chain, now)?;
        let leaf = chain.first().ok_or(ProofError::Malformed)?;
        let (_, leaf) = X509Certificate::from_der(leaf).or(Err(ProofError::Malformed))?;
        let key = leaf.public_key();
        self.algorithm(signature.scheme)
            .filter(|algorithm| is_key_for(key.raw, algorithm.public_key_alg_id().as_ref()))
            .ok_or(ProofError::Signature)?
            .verify_signature(&key.subject_public_key.data, message, &signature.bytes)
            .or(Err(ProofError::Signature))?;
        Ok(proven)
    }

    fn algorithm(&self, scheme: u16) -> Option<&'static dyn SignatureVerificationAlgorithm> {
        let scheme = Some(SignatureScheme::from(scheme)).filter(|known| SCHEMES.contains(known))?;
        let (_, algorithms) = self.algorithms.mapping.iter().find(|(known, _)| *known == scheme)?;
        // Of the several algorithms of a scheme, the first is TLS 1.3's, with the curve fixed.
        algorithms.first().copied()
    }

    fn authenticate(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ProvenIdentity, ProofError> {
        if let Some(proven) = self.believed.find(chain, now) {
            return Ok(proven);
        }
        let (leaf, issuers) = chain.split_first().ok_or(ProofError::Malformed)?;
        let parsed = X509Certificate::from_der(leaf).or(Err(ProofError::Malformed))?.1;
        self.authority.verify_client_cert(leaf, issuers, now).or(Err(ProofError::Untrusted))?;
        let mut names = parsed.subject().iter_common_name();
        let name = names.next().and_then(|name| name.as_str().ok()).ok_or(ProofError::Nameless)?;
        let proven = ProvenIdentity { id: name.to_owned(), fingerprint: fingerprint(leaf) };
        self.believed.add(chain, now, &proven);
        Ok(proven)
    }
}

/// Whether a SubjectPublicKeyInfo (RFC 5280 section 4.1) begins with this AlgorithmIdentifier, which
/// is given without its own tag and length.
fn is_key_for(info: &[u8], algorithm: &[u8]) -> bool {
    let Ok((_, outer)) = x509_parser::asn1_rs::Any::from_der(info) else { return false };
    let Ok((_, inner)) = x509_parser::asn1_rs::Any::from_der(outer.data) else { return false };
    inner.data == algorithm
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };

    use super::*;

    #[test]
    fn an_identity_of_the_same_authority_is_believed() {
        let authority = Authority::new();
        let (anna, bert) = (authority.identity("anna"), authority.identity("bert"));

        let signature = anna.sign(b"hello").unwrap();

        let proven = bert.verify(anna.chain(), b"hello", &signature, UnixTime::now()).unwrap();
        assert_eq!(proven.id, "anna");
        assert_eq!(proven.fingerprint, fingerprint(&anna.chain()[0]));
    }

    #[test]
    fn a_chain_that_was_believed_is_so_neither_after_its_end_nor_before_its_beginning() {
        let authority = Authority::new();
        let (anna, bert) = (authority.identity("anna"), authority.identity("bert"));
        let signature = anna.sign(b"hello").unwrap();
        let verify = |now| bert.verify(anna.chain(), b"hello", &signature, now);
        let now = UnixTime::now();
        assert!(verify(now).is_ok() && verify(now).is_ok());
        // rcgen's certificates are valid from 1975 to 4096.
        for seconds in [0, 70_000_000_000] {
            let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
            assert_eq!(verify(then), Err(ProofError::Untrusted));
        }
        let other = bert.sign(b"hello").unwrap();
        assert_eq!(
            bert.verify(anna.chain(), b"hello", &other, now),
            Err(ProofError::Signature),
            "only the chain is remembered"
        );
    }

    #[test]
    fn every_kind_of_key_that_clients_use_is_verified() {
        let authority = Authority::new();
        let judge = authority.identity("judge");
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let signer = Credentials::new(&authority.identity_with(&key, "anna")).unwrap();
            let signature = signer.sign(b"x").unwrap();
            judge.verify(signer.chain(), b"x", &signature, UnixTime::now()).unwrap();
        }
    }

    #[test]
    fn what_somebody_else_signed_is_refused() {
        let authority = Authority::new();
        let (anna, bert) = (authority.identity("anna"), authority.identity("bert"));
        let signature = bert.sign(b"hello").unwrap();
        let judge = |message: &[u8], signature: &Signature| {
            bert.verify(anna.chain(), message, signature, UnixTime::now())
        };

        assert_eq!(judge(b"hello", &signature), Err(ProofError::Signature));
        let genuine = anna.sign(b"hello").unwrap();
        assert_eq!(judge(b"hallo", &genuine), Err(ProofError::Signature));
        for scheme in [0, 0x0401, 0x0503, 0x0807] {
            let relabelled = Signature { scheme, ..genuine.clone() };
            assert_eq!(judge(b"hello", &relabelled), Err(ProofError::Signature), "{scheme:#x}");
        }
    }

    #[test]
    fn a_certificate_of_another_authority_is_refused() {
        let (ours, theirs) = (Authority::new(), Authority::new());
        let (anna, stranger) = (ours.identity("anna"), theirs.identity("anna"));
        let signature = stranger.sign(b"hello").unwrap();

        let refused = anna.verify(stranger.chain(), b"hello", &signature, UnixTime::now());

        assert_eq!(refused, Err(ProofError::Untrusted));
        assert_eq!(
            anna.verify(&[], b"hello", &signature, UnixTime::now()),
            Err(ProofError::Malformed)
        );
        let garbage = [CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])];
        assert_eq!(
            anna.verify(&garbage, b"hello", &signature, UnixTime::now()),
            Err(ProofError::Malformed)
        );
    }

    #[test]
    fn an_expired_certificate_is_refused() {
        let authority = Authority::new();
        let anna = authority.identity("anna");
        let signature = anna.sign(b"hello").unwrap();
        // The certificates of these tests end in the year 4096 (rcgen's default).
        let late = UnixTime::since_unix_epoch(std::time::Duration::from_secs(70_000_000_000));

        let refused = anna.verify(anna.chain(), b"hello", &signature, late);

        assert_eq!(refused, Err(ProofError::Untrusted));
    }

    #[test]
    fn an_identity_that_nobody_would_believe_has_no_credentials() {
        let (ours, theirs) = (Authority::new(), Authority::new());
        let key = KeyPair::generate().unwrap();
        let foreign = Identity::new(
            "https://ctrl.example:443".into(),
            key.serialize_pem(),
            theirs.certificate(&key, "anna"),
            ours.pem,
        )
        .unwrap();

        assert!(matches!(Credentials::new(&foreign), Err(CredentialsError::Own(_))));
    }

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).unwrap();
            Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
        }

        fn certificate(&self, key: &KeyPair, name: &str) -> String {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.signed_by(key, &self.issuer).unwrap().pem()
        }

        fn identity_with(&self, key: &KeyPair, name: &str) -> Identity {
            let controller = "https://ctrl.example:443".into();
            let certificate = self.certificate(key, name);
            Identity::new(controller, key.serialize_pem(), certificate, self.pem.clone()).unwrap()
        }

        fn identity(&self, name: &str) -> Credentials {
            let key = KeyPair::generate().unwrap();
            Credentials::new(&self.identity_with(&key, name)).unwrap()
        }
    }
}
