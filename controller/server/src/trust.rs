//! Whose certificates clients may present: our own, and those of verified CAs of others, which come and go.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nightgate_model::{entity::Ca, id::CaId};
use nightgate_pki::ForeignCertificate;
use nightgate_store::Model;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs,
    server::{
        VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};

type Verifier = Arc<dyn ClientCertVerifier>;

/// Verifies client certificates; what it trusts can change while connections come in.
pub(crate) struct ClientTrust {
    own: Verifier,
    others: RwLock<Vec<(CaId, Verifier)>>,
    /// Some auth policy lets certificates count that have ended.
    takes_expired: AtomicBool,
}

impl ClientTrust {
    /// Trusts our own CA.
    pub(crate) fn new(anchors: &[CertificateDer<'static>]) -> Result<Self, VerifierBuilderError> {
        let (others, takes_expired) = (RwLock::default(), AtomicBool::new(false));
        Ok(Self { own: verifier(anchors)?, others, takes_expired })
    }

    /// Trusts the verified CAs of the model, and no others from now on; and what has ended, where a policy does.
    pub(crate) fn follow(&self, model: &Model) {
        let others = trusted_cas(model).filter_map(|ca| {
            let certificate = ForeignCertificate::from_pem(&ca.cert_pem).ok()?;
            // A certificate that does not do was refused when the CA was registered.
            let verifier = verifier(&[certificate.der().clone()]).ok()?;
            Some((ca.id.clone(), verifier))
        });
        *self.others.write().unwrap_or_else(PoisonError::into_inner) = others.collect();
        let mut policies = model.auth_policies.values().map(|stored| &stored.entity.primary.cert);
        let takes_expired = policies.any(|cert| cert.allowed && cert.allow_expired_certs);
        self.takes_expired.store(takes_expired, Ordering::Relaxed);
    }

    /// The CA of others that a chain comes from, leaf first; none if there is none (any more).
    pub(crate) fn issuer(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<CaId> {
        let (leaf, intermediates) = chain.split_first()?;
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let issuer = others
            .iter()
            .find(|(_, verifier)| verifier.verify_client_cert(leaf, intermediates, now).is_ok());
        issuer.map(|(id, _)| id.clone())
    }
}

impl ClientTrust {
    fn verify_foreign(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Option<ClientCertVerified> {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let mut tried =
            others.iter().map(|(_, other)| other.verify_client_cert(leaf, intermediates, at));
        tried.find_map(Result::ok)
    }

    /// Takes a certificate that was good at its end. Who it stands for, and whether that counts, is decided by
    /// auth policy when it authenticates.
    fn verify_expired(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        refused: rustls::Error,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let Some(end) = ended_at(leaf).filter(|_| self.takes_expired.load(Ordering::Relaxed))
        else {
            return Err(refused);
        };
        let own = self.own.verify_client_cert(leaf, intermediates, end);
        own.or_else(|_| self.verify_foreign(leaf, intermediates, end).ok_or(refused))
    }
}

/// When a certificate ended, if it has.
pub(crate) fn ended_at(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let end = ForeignCertificate::from_der(certificate).ok()?.not_after().unix_timestamp();
    let end = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(end).ok()?));
    (end < UnixTime::now()).then_some(end)
}

/// The CAs whose certificates count for something.
pub(crate) fn trusted_cas(model: &Model) -> impl Iterator<Item = &Ca> {
    model.cas.values().map(|stored| &stored.entity).filter(|ca| ca.is_verified)
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTrust").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for ClientTrust {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None are named: the list would tell strangers whose certificates are of use.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let refused = match self.own.verify_client_cert(leaf, intermediates, now) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        let verified = self.verify_foreign(leaf, intermediates, now).ok_or(refused);
        verified.or_else(|refused| self.verify_expired(leaf, intermediates, refused))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.own.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.own.supported_verify_schemes()
    }
}

fn verifier(anchors: &[CertificateDer<'static>]) -> Result<Verifier, VerifierBuilderError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(anchors.iter().cloned());
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build()
}
