//! Whose certificates clients may present to a router: what comes and goes while it listens.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};

use crate::{Identity, TlsSetupError, provider};

type Verifier = Arc<dyn ClientCertVerifier>;

/// Verifies client certificates by the identity's CA, and by others that are named later.
pub struct ClientTrust {
    own: RootCertStore,
    current: RwLock<Verifier>,
}

impl ClientTrust {
    /// Trusts the CA of this identity.
    ///
    /// # Errors
    /// The CA does not do for TLS.
    pub fn new(identity: &Identity) -> Result<Arc<Self>, TlsSetupError> {
        let own = identity.roots()?;
        let current = RwLock::new(verifier(own.clone())?);
        Ok(Arc::new(Self { own, current }))
    }

    /// Trusts these besides, PEM, and no others from now on. What cannot be read is left out.
    pub fn also_trust(&self, pems: &[String]) {
        let mut roots = self.own.clone();
        let certificates =
            pems.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()));
        roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        if let Ok(verifier) = verifier(roots) {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = verifier;
        }
    }

    fn current(&self) -> Verifier {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTrust").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for ClientTrust {
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
        self.current().verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current().verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current().verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current().supported_verify_schemes()
    }
}

fn verifier(roots: RootCertStore) -> Result<Verifier, VerifierBuilderError> {
    WebPkiClientVerifier::builder_with_provider(roots.into(), provider()).build()
}
