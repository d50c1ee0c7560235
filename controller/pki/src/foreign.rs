//! Certificate authorities of others: what is taken for one, and who holds its key.

use rcgen::{DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::issue::{fingerprint, leaf, params, pem_of};

/// How long a verification certificate is good: it is used at once.
const VERIFICATION_LIFETIME: Duration = Duration::days(1);

/// A certificate that is not what it should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ForeignError {
    /// Not PEM, not X.509, or several certificates.
    #[error("expected one X.509 certificate in PEM")]
    Malformed,
    /// The certificate of an end, not of an authority.
    #[error(
        "the certificate is no CA's: its basic constraints (RFC 5280 section 4.2.1.9) do not say so"
    )]
    NotCa,
    /// It has ended, or has not begun.
    #[error("the certificate is not valid now")]
    NotValidNow,
    /// Its common name is another one.
    #[error("the certificate's common name is not the verification token")]
    Token,
    /// It is not signed by the authority.
    #[error("the certificate is not signed by the CA's key")]
    Signature,
    /// A key that cannot sign, or another one than the certificate's.
    #[error("expected the CA's private key in PEM (PKCS #8)")]
    Key,
}

/// A certificate, read and not trusted.
pub struct ForeignCertificate(CertificateDer<'static>);

impl ForeignCertificate {
    /// Reads the only certificate of a PEM text.
    ///
    /// # Errors
    /// The text holds none, or several, or one that is not X.509.
    pub fn from_pem(pem: &str) -> Result<Self, ForeignError> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
        let Ok(mut certificates) = certificates.collect::<Result<Vec<_>, _>>() else {
            return Err(ForeignError::Malformed);
        };
        match (certificates.pop(), certificates.is_empty()) {
            (Some(certificate), true) => Self::from_der(&certificate),
            (Some(_) | None, _) => Err(ForeignError::Malformed),
        }
    }

    /// Takes DER.
    ///
    /// # Errors
    /// It is not X.509.
    pub fn from_der(der: &CertificateDer<'_>) -> Result<Self, ForeignError> {
        match X509Certificate::from_der(der) {
            Ok(([], _)) => Ok(Self(der.clone().into_owned())),
            Ok(_) | Err(_) => Err(ForeignError::Malformed),
        }
    }

    /// Its DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.0
    }

    /// Its PEM.
    pub fn pem(&self) -> String {
        pem_of(&self.0)
    }

    /// SHA-1 of its DER, lower-case hex.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.0)
    }

    /// The first common name of its subject; empty if there is none.
    pub fn common_name(&self) -> String {
        let certificate = self.parsed();
        let mut names = certificate.subject().iter_common_name();
        names.next().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
    }

    /// When it ends.
    pub fn not_after(&self) -> OffsetDateTime {
        self.parsed().validity().not_after.to_datetime()
    }

    /// Refuses what is no authority's certificate, or has ended.
    ///
    /// # Errors
    /// See above.
    pub fn check_ca(&self, now: OffsetDateTime) -> Result<(), ForeignError> {
        if !self.parsed().is_ca() {
            return Err(ForeignError::NotCa);
        }
        self.check_time(now)
    }

    /// Accepts the proof that somebody holds the key of this authority: a certificate that it signed, with
    /// the token as its common name.
    ///
    /// # Errors
    /// The proof is none.
    pub fn check_proof(
        &self,
        proof: &Self,
        token: &str,
        now: OffsetDateTime,
    ) -> Result<(), ForeignError> {
        proof.check_time(now)?;
        if proof.common_name() != token {
            return Err(ForeignError::Token);
        }
        let authority = self.parsed();
        let signed = proof.parsed().verify_signature(Some(authority.public_key()));
        signed.or(Err(ForeignError::Signature))
    }

    /// Makes that proof.
    ///
    /// # Errors
    /// The key does not belong to this authority.
    pub fn prove(
        &self,
        key: &str,
        token: &str,
        now: OffsetDateTime,
    ) -> Result<String, ForeignError> {
        let Ok(key) = KeyPair::from_pem(key) else { return Err(ForeignError::Key) };
        if key.public_key_raw() != self.parsed().public_key().subject_public_key.data.as_ref() {
            return Err(ForeignError::Key);
        }
        let prove = || {
            let issuer = Issuer::from_ca_cert_der(&self.0, key)?;
            let usages = [ExtendedKeyUsagePurpose::ClientAuth];
            let mut params = leaf(params(token, now, VERIFICATION_LIFETIME), &usages, Vec::new());
            params.distinguished_name.push(DnType::CommonName, token);
            params.signed_by(&KeyPair::generate()?, &issuer)
        };
        prove().map(|proof: rcgen::Certificate| pem_of(proof.der())).or(Err(ForeignError::Key))
    }

    fn check_time(&self, now: OffsetDateTime) -> Result<(), ForeignError> {
        let validity = self.parsed().validity().clone();
        let is_valid =
            validity.not_before.to_datetime() <= now && now < validity.not_after.to_datetime();
        if is_valid { Ok(()) } else { Err(ForeignError::NotValidNow) }
    }

    fn parsed(&self) -> X509Certificate<'_> {
        X509Certificate::from_der(&self.0).expect("it parsed when it was taken").1
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa};

    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn authority() -> (ForeignCertificate, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Acme");
        let certificate = params.self_signed(&key).unwrap();
        (ForeignCertificate::from_pem(&certificate.pem()).unwrap(), key.serialize_pem())
    }

    #[test]
    fn whoever_holds_the_key_proves_it() {
        let (acme, key) = authority();
        acme.check_ca(now()).unwrap();
        assert_eq!(acme.common_name(), "Acme");
        let proof = ForeignCertificate::from_pem(&acme.prove(&key, "t", now()).unwrap()).unwrap();
        assert_eq!(acme.check_proof(&proof, "t", now()), Ok(()));
        assert_eq!(acme.check_proof(&proof, "u", now()), Err(ForeignError::Token));
        let late = now() + VERIFICATION_LIFETIME;
        assert_eq!(acme.check_proof(&proof, "t", late), Err(ForeignError::NotValidNow));
        let (other, other_key) = authority();
        assert_eq!(other.check_proof(&proof, "t", now()), Err(ForeignError::Signature));
        assert_eq!(acme.prove(&other_key, "t", now()), Err(ForeignError::Key));
        assert_eq!(proof.check_ca(now()), Err(ForeignError::NotCa));
    }

    #[test]
    fn two_certificates_or_garbage_are_refused() {
        let (acme, _) = authority();
        for pem in
            [acme.pem() + &acme.pem(), String::new(), "x".into(), acme.pem().replace('M', "A")]
        {
            assert!(ForeignCertificate::from_pem(&pem).is_err());
        }
    }
}
