//! Enrollment: from a one-time token to an identity with a key that never leaves this machine.

use nightgate_identity::{Identity, IdentityError, TlsSetupError};
use nightgate_model::{
    api::{EnrollRouter, Enrolled},
    token::EnrollmentMethod,
};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use crate::{
    bundle::{self, BundleError},
    rest::{ControllerError, Rest},
    tls::{self, REST_ALPN},
    token::{EnrollmentToken, TokenError},
};

/// Why an enrollment failed. The token is used up only if the controller accepted the request.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The token is not accepted.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The controller did not answer, or refused.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The controller's CA bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The certificates at hand do not do for TLS.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The controller's answer holds no usable certificates.
    #[error("enroll: the controller's answer holds no usable certificates")]
    Answer(#[source] IdentityError),
    /// The key or the certificate signing request could not be made.
    #[error("make a P-256 key and a certificate signing request")]
    Request(#[from] rcgen::Error),
}

/// Redeems the enrollment token of an identity.
///
/// Connects to the controller that the token names, and goes on only if that controller's
/// certificate key signed the token; fetches the certificates to trust; makes a P-256 key; and has
/// the controller certify it. Save the result: the token cannot be used a second time.
///
/// # Errors
/// See [`EnrollError`].
pub async fn enroll(token: &str) -> Result<Identity, EnrollError> {
    let token = EnrollmentToken::read(token, EnrollmentMethod::Ott)?;
    redeem(&token, "ott", |csr| (csr, "text/plain")).await
}

/// Redeems the enrollment token of an edge router.
///
/// `address` is the `host:port` where the router will accept clients and links; its certificate is
/// valid for that host. None for a router that only dials out.
///
/// # Errors
/// See [`EnrollError`].
pub async fn enroll_router(token: &str, address: Option<&str>) -> Result<Identity, EnrollError> {
    let token = EnrollmentToken::read(token, EnrollmentMethod::Erott)?;
    let address = address.map(str::to_owned);
    redeem(&token, "erott", |csr| {
        let body = serde_json::to_string(&EnrollRouter { csr, address });
        (body.expect("text fields serialize"), "application/json")
    })
    .await
}

async fn redeem(
    token: &EnrollmentToken,
    method: &'static str,
    body: impl FnOnce(String) -> (String, &'static str),
) -> Result<Identity, EnrollError> {
    let claims = token.claims();
    let first = Rest::discover(tls::first_contact(token.clone())?, &claims.iss).await?;
    let request =
        first.get_root("/.well-known/est/cacerts").header(ACCEPT, "application/pkcs7-mime");
    let trusted = bundle::read(&first.text("fetch the CA bundle", request).await?)?;

    let rest = Rest::discover(tls::trusting(trusted)?, &claims.iss).await?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let (body, content_type) = body(signing_request(&key, &claims.sub)?);
    let request = rest
        .post("/enroll")
        .query(&[("method", method), ("token", &claims.jti)])
        .header(CONTENT_TYPE, content_type)
        .body(body);
    let enrolled: Enrolled = rest.data("enroll", request).await?;

    let identity =
        Identity::new(claims.iss.clone(), key.serialize_pem(), enrolled.cert, enrolled.ca)
            .map_err(EnrollError::Answer)?;
    // A certificate for another key is noticed here and not at the first use.
    identity.client_config(&REST_ALPN)?;
    Ok(identity)
}

fn signing_request(key: &KeyPair, subject: &str) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Nightgate");
    params.distinguished_name.push(DnType::CommonName, subject);
    params.serialize_request(key)?.pem()
}
