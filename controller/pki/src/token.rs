//! Signed tokens (RFC 7519): ES256, and RS256 for clients that know no other (RFC 7518 sections 3.3, 3.4).

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    jwk::{Jwk, PublicKeyUse, ThumbprintHash},
};
use nightgate_model::token::{ApiSessionClaims, EnrollmentClaims, SessionClaims};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

use crate::{
    PkiError,
    directory::KeyFile,
    pair::{self, KeyKind},
};

/// Claims that a token can carry: they say when they end.
pub trait Claims: DeserializeOwned + Serialize {
    /// Expiry, seconds since the Unix epoch.
    fn expires_at(&self) -> i64;
}

/// Why a token was not made or not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key cannot be used to sign tokens.
    #[error("key is not usable for tokens: {0}")]
    Key(jsonwebtoken::errors::Error),
    /// Signing failed.
    #[error("sign token: {0}")]
    Sign(jsonwebtoken::errors::Error),
    /// Not a token of this key and kind.
    #[error("token was not signed by this controller or is of another kind: {0}")]
    Invalid(jsonwebtoken::errors::Error),
    /// There is no key for RS256.
    #[error("no RS256 tokens: legacy clients are not served")]
    NoLegacyKey,
    /// It ended.
    #[error("token expired")]
    Expired,
}

/// A key that signs and verifies tokens.
pub struct TokenKey {
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: DecodingKey,
    public_pem: String,
}

impl TokenKey {
    /// Loads the key file, or makes it when there is none.
    pub(crate) fn open(file: &KeyFile) -> Result<Self, PkiError> {
        let key = match pair::load_key(file, KeyKind::P256)? {
            Some(key) => key,
            None => pair::make_key(file, KeyKind::P256)?,
        };
        Ok(Self::new(&key)?)
    }

    /// A new key that is kept nowhere.
    ///
    /// # Panics
    /// The system has no randomness.
    pub fn of_nobody() -> Self {
        let key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("the system has randomness");
        Self::new(&key).expect("a P-256 key signs ES256")
    }

    /// From a P-256 key.
    pub(crate) fn new(key: &KeyPair) -> Result<Self, TokenError> {
        let public_pem = key.public_key_pem();
        Ok(Self {
            algorithm: Algorithm::ES256,
            signing: EncodingKey::from_ec_der(&key.serialize_der()),
            verifying: DecodingKey::from_ec_pem(public_pem.as_bytes()).map_err(TokenError::Key)?,
            public_pem,
        })
    }

    /// From an RSA key.
    pub(crate) fn rsa(key: &KeyPair) -> Result<Self, TokenError> {
        let (private_pem, public_pem) = (key.serialize_pem(), key.public_key_pem());
        Ok(Self {
            algorithm: Algorithm::RS256,
            signing: EncodingKey::from_rsa_pem(private_pem.as_bytes()).map_err(TokenError::Key)?,
            verifying: DecodingKey::from_rsa_pem(public_pem.as_bytes()).map_err(TokenError::Key)?,
            public_pem,
        })
    }

    /// The public key, PEM (SPKI).
    pub fn public_key_pem(&self) -> &str {
        &self.public_pem
    }

    /// The public key as JSON (RFC 7517), named by its thumbprint (RFC 7638).
    ///
    /// # Errors
    /// The key fails.
    pub fn jwk(&self) -> Result<Jwk, TokenError> {
        let mut jwk =
            Jwk::from_encoding_key(&self.signing, self.algorithm).map_err(TokenError::Key)?;
        jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256).map_err(TokenError::Key)?);
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(jwk)
    }

    /// Signs claims.
    ///
    /// # Errors
    /// The claims cannot be encoded as JSON or the key fails.
    pub fn sign(&self, claims: &impl Claims) -> Result<String, TokenError> {
        jsonwebtoken::encode(&Header::new(self.algorithm), claims, &self.signing)
            .map_err(TokenError::Sign)
    }

    /// Checks a token's signature, kind and expiry.
    ///
    /// # Errors
    /// Any of the three does not hold.
    pub fn verify<T: Claims>(&self, token: &str, now: OffsetDateTime) -> Result<T, TokenError> {
        let mut validation = Validation::new(self.algorithm);
        // Expiry is compared with `now` below; audiences are not used between our own parts.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = jsonwebtoken::decode::<T>(token, &self.verifying, &validation)
            .map_err(TokenError::Invalid)?
            .claims;
        if claims.expires_at() <= now.unix_timestamp() {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

impl Claims for EnrollmentClaims {
    fn expires_at(&self) -> i64 {
        self.exp
    }
}

impl Claims for ApiSessionClaims {
    fn expires_at(&self) -> i64 {
        self.exp
    }
}

impl Claims for SessionClaims {
    fn expires_at(&self) -> i64 {
        self.exp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightgate_model::{
        entity::Permission,
        id::{ApiSessionId, IdentityId, ServiceId},
        token::{ApiSessionKind, SessionKind},
    };

    fn key() -> TokenKey {
        TokenKey::new(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()).unwrap()
    }

    fn claims(exp: i64) -> ApiSessionClaims {
        ApiSessionClaims {
            kind: ApiSessionKind::ApiSession,
            sub: IdentityId::new("i1"),
            api_session: ApiSessionId::new("a1"),
            fingerprints: vec!["00ff".into()],
            exp,
            index: 4,
        }
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn a_token_holds_until_its_expiry() {
        let key = key();
        let token = key.sign(&claims(100)).unwrap();
        assert_eq!(key.verify::<ApiSessionClaims>(&token, at(99)).unwrap(), claims(100));
        assert!(matches!(
            key.verify::<ApiSessionClaims>(&token, at(100)),
            Err(TokenError::Expired)
        ));
    }

    #[test]
    fn a_token_of_another_key_or_kind_is_refused() {
        let key = key();
        let foreign = self::key().sign(&claims(100)).unwrap();
        assert!(matches!(
            key.verify::<ApiSessionClaims>(&foreign, at(1)),
            Err(TokenError::Invalid(_))
        ));
        let session = SessionClaims {
            kind: SessionKind::Session,
            sub: ServiceId::new("s"),
            identity: IdentityId::new("i1"),
            api_session: ApiSessionId::new("a1"),
            permission: Permission::Dial,
            exp: 100,
            index: 4,
        };
        let session = key.sign(&session).unwrap();
        assert!(matches!(
            key.verify::<ApiSessionClaims>(&session, at(1)),
            Err(TokenError::Invalid(_))
        ));
    }

    #[test]
    fn one_flipped_character_is_refused() {
        let key = key();
        let token = key.sign(&claims(100)).unwrap();
        for index in 0..token.len() - 1 {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            if changed != token {
                assert!(key.verify::<ApiSessionClaims>(&changed, at(1)).is_err(), "at {index}");
            }
        }
    }
}
