//! The enrollment token: a JWT that names the controller and is signed with the key of the
//! controller's TLS certificate, so that one piece of text bootstraps all trust.

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, dangerous::insecure_decode, decode, decode_header,
    errors::ErrorKind,
};
use nightgate_model::token::{EnrollmentClaims, EnrollmentMethod};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longest token looked at, in bytes; real ones have about 500.
const MAX_LENGTH: usize = 16 * 1024;

/// An enrollment token whose signature still has to be checked against a certificate.
#[derive(Clone, Debug)]
pub(crate) struct EnrollmentToken {
    text: String,
    algorithm: Algorithm,
    claims: EnrollmentClaims,
}

/// An enrollment token that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The text is no enrollment token.
    #[error("enrollment token: expected a JWT with iss, sub, jti, exp and em")]
    Shape(#[source] jsonwebtoken::errors::Error),
    /// The text is far longer than any token.
    #[error("enrollment token: found {found} bytes, expected at most {MAX_LENGTH}")]
    TooLong {
        /// Bytes given.
        found: usize,
    },
    /// The token is signed in a way that enrollment does not use.
    #[error("enrollment token: signed with {found:?}, expected ES256, ES384, RS256")]
    Algorithm {
        /// The algorithm named in the token.
        found: Algorithm,
    },
    /// The token is for another kind of endpoint, or for another means to authenticate.
    #[error("enrollment token: it enrolls by {}, expected {}", found.as_str(), words(expected))]
    Method {
        /// The method in the token.
        found: EnrollmentMethod,
        /// The methods that fit the call.
        expected: &'static [EnrollmentMethod],
    },
    /// The certificate presented by the server cannot be read.
    #[error("enrollment token: the server's certificate cannot be read")]
    Certificate,
    /// The server's key is not the one that signed the token: somebody is in between, or the
    /// controller has a new certificate since.
    #[error(
        "enrollment token: not signed by the server at {controller}; ask for a new token if its \
         certificate was renewed since"
    )]
    Signature {
        /// Where the token points.
        controller: String,
    },
    /// The token is past its expiry.
    #[error("enrollment token: expired; ask for a new one")]
    Expired,
}

impl EnrollmentToken {
    /// Reads the token without trusting it.
    pub(crate) fn read(
        text: &str,
        expected: &'static [EnrollmentMethod],
    ) -> Result<Self, TokenError> {
        let token = Self::read_any(text)?;
        let found = token.claims.em;
        if expected.contains(&found) {
            Ok(token)
        } else {
            Err(TokenError::Method { found, expected })
        }
    }

    fn read_any(text: &str) -> Result<Self, TokenError> {
        let text = text.trim().to_owned();
        if text.len() > MAX_LENGTH {
            return Err(TokenError::TooLong { found: text.len() });
        }
        let algorithm = decode_header(&text).map_err(TokenError::Shape)?.alg;
        if !matches!(algorithm, Algorithm::ES256 | Algorithm::ES384 | Algorithm::RS256) {
            return Err(TokenError::Algorithm { found: algorithm });
        }
        let claims: EnrollmentClaims = insecure_decode(&text).map_err(TokenError::Shape)?.claims;
        Ok(Self { text, algorithm, claims })
    }

    /// What the token says. To be believed only about where to connect until
    /// [`verify_signed_by`](Self::verify_signed_by) has succeeded.
    pub(crate) fn claims(&self) -> &EnrollmentClaims {
        &self.claims
    }

    /// Checks that the key of this certificate signed the token and that it has not expired.
    pub(crate) fn verify_signed_by(&self, leaf: &CertificateDer<'_>) -> Result<(), TokenError> {
        let (_, certificate) =
            X509Certificate::from_der(leaf).map_err(|_malformed| TokenError::Certificate)?;
        let public = certificate.public_key().subject_public_key.data.as_ref();
        let key = if self.algorithm == Algorithm::RS256 {
            DecodingKey::from_rsa_der(public)
        } else {
            DecodingKey::from_ec_der(public)
        };
        let mut validation = Validation::new(self.algorithm);
        validation.validate_aud = false;
        match decode::<EnrollmentClaims>(&self.text, &key, &validation) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => {
                Err(TokenError::Expired)
            }
            Err(_) => Err(TokenError::Signature { controller: self.claims.iss.clone() }),
        }
    }
}

/// How an enrollment token is redeemed, as it says itself: nothing is verified.
///
/// # Errors
/// The text is no enrollment token.
pub fn enrollment_method(token: &str) -> Result<EnrollmentMethod, TokenError> {
    EnrollmentToken::read_any(token).map(|token| token.claims.em)
}

fn words(methods: &[EnrollmentMethod]) -> String {
    methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256,
    };

    use super::*;

    #[test]
    fn token_signed_by_the_presented_certificate_is_accepted() {
        for (key_kind, algorithm) in [
            (&PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
            (&PKCS_ECDSA_P384_SHA384, Algorithm::ES384),
            (&PKCS_RSA_SHA256, Algorithm::RS256),
        ] {
            let key = KeyPair::generate_for(key_kind).unwrap();
            let token = signed(&key, algorithm, i64::from(u32::MAX));

            token.verify_signed_by(&certificate(&key)).unwrap();
        }
    }

    #[test]
    fn token_signed_by_another_key_is_refused() {
        let [key, other] = [(); 2].map(|()| KeyPair::generate().unwrap());
        let token = signed(&key, Algorithm::ES256, i64::from(u32::MAX));

        let refused = token.verify_signed_by(&certificate(&other));

        assert!(matches!(refused, Err(TokenError::Signature { .. })), "{refused:?}");
    }

    #[test]
    fn certificate_with_another_kind_of_key_is_refused() {
        let key = KeyPair::generate().unwrap();
        let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let token = signed(&key, Algorithm::ES256, i64::from(u32::MAX));

        assert!(token.verify_signed_by(&certificate(&other)).is_err());
    }

    #[test]
    fn expired_token_is_refused() {
        let key = KeyPair::generate().unwrap();
        let token = signed(&key, Algorithm::ES256, 1_700_000_000);

        let refused = token.verify_signed_by(&certificate(&key));

        assert!(matches!(refused, Err(TokenError::Expired)), "{refused:?}");
    }

    #[test]
    fn altered_claims_are_refused() {
        let key = KeyPair::generate().unwrap();
        let genuine = signed(&key, Algorithm::ES256, i64::from(u32::MAX));
        let other = signed(&key, Algorithm::ES256, i64::from(u32::MAX) - 1);
        let (head, signature) = genuine.text.rsplit_once('.').unwrap();
        let (other_head, _) = other.text.rsplit_once('.').unwrap();
        assert_ne!(head, other_head);
        let forged =
            EnrollmentToken::read(&format!("{other_head}.{signature}"), &[EnrollmentMethod::Ott])
                .unwrap();

        assert!(forged.verify_signed_by(&certificate(&key)).is_err());
    }

    #[test]
    fn symmetric_algorithm_is_refused_before_any_contact() {
        let claims = claims(i64::from(u32::MAX));
        let text = encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(b"x"))
            .unwrap();

        let refused = EnrollmentToken::read(&text, &[EnrollmentMethod::Ott]);

        assert!(matches!(refused, Err(TokenError::Algorithm { .. })), "{refused:?}");
    }

    #[test]
    fn router_token_does_not_enroll_an_identity() {
        let key = KeyPair::generate().unwrap();
        let token = signed(&key, Algorithm::ES256, i64::from(u32::MAX));

        let refused = EnrollmentToken::read(&token.text, &[EnrollmentMethod::Erott]);

        assert!(matches!(refused, Err(TokenError::Method { .. })), "{refused:?}");
    }

    #[test]
    fn text_that_is_no_token_is_refused() {
        for text in ["", "a.b.c", "eyJ", &"x".repeat(MAX_LENGTH + 1)] {
            assert!(EnrollmentToken::read(text, &[EnrollmentMethod::Ott]).is_err());
        }
    }

    fn signed(key: &KeyPair, algorithm: Algorithm, exp: i64) -> EnrollmentToken {
        let pem = key.serialize_pem();
        let signer = if algorithm == Algorithm::RS256 {
            EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
        } else {
            EncodingKey::from_ec_pem(pem.as_bytes()).unwrap()
        };
        let text = encode(&Header::new(algorithm), &claims(exp), &signer).unwrap();
        EnrollmentToken::read(&format!("{text}\n"), &[EnrollmentMethod::Ott]).unwrap()
    }

    fn claims(exp: i64) -> EnrollmentClaims {
        EnrollmentClaims {
            iss: "https://ctrl.example:443".into(),
            sub: "id-1".into(),
            aud: vec![String::new()],
            exp,
            jti: "secret".into(),
            em: EnrollmentMethod::Ott,
        }
    }

    fn certificate(key: &KeyPair) -> CertificateDer<'static> {
        CertificateParams::default().self_signed(key).unwrap().der().clone()
    }
}
