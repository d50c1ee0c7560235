//! Enrollment: from a one-time token to an identity with a key that never leaves this machine.

use nightgate_identity::{Identity, IdentityError, RequestError, TlsSetupError, key_and_request};
use nightgate_model::{
    api::{EnrollPassword, EnrollRouter, Enrolled},
    token::EnrollmentMethod,
};
use reqwest::{
    RequestBuilder,
    header::{ACCEPT, CONTENT_TYPE},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};

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
    /// The key or the certificate at hand cannot be read.
    #[error("enroll: expected a private key and its certificate in PEM")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// The key or the certificate signing request could not be made.
    #[error(transparent)]
    Request(#[from] RequestError),
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
    let token = EnrollmentToken::read(token, &[EnrollmentMethod::Ott])?;
    redeem(&token, |csr| (csr, "text/plain")).await
}

/// Enrolls with a certificate of another CA that the operator has registered: redeems the token of an
/// identity (method `ottca`), or becomes a new identity by the CA's own token (method `ca`).
///
/// `name` is what a new identity asks to be called; the CA's settings decide.
///
/// # Errors
/// See [`EnrollError`].
pub async fn enroll_with_certificate(
    token: &str,
    key_pem: &str,
    certificates_pem: &str,
    name: Option<&str>,
) -> Result<Identity, EnrollError> {
    const METHODS: &[EnrollmentMethod] = &[EnrollmentMethod::Ottca, EnrollmentMethod::Ca];
    let token = EnrollmentToken::read(token, METHODS)?;
    let trusted = trusted(&token).await?;
    let certificates = CertificateDer::pem_slice_iter(certificates_pem.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
    let tls = tls::presenting(trusted, certificates.collect::<Result<_, _>>()?, key)?;
    let rest = Rest::discover(tls, &token.claims().iss).await?;
    let body = json!({ "name": name }).to_string();
    let enrolled: Enrolled =
        rest.data("enroll", request(&rest, &token, (body, "application/json"))).await?;
    let controller = token.claims().iss.clone();
    Identity::new(controller, key_pem.into(), certificates_pem.into(), enrolled.ca)
        .map_err(EnrollError::Answer)
}

/// Redeems the token of an identity that logs in with a password (method `updb`): sets the password.
///
/// # Errors
/// See [`EnrollError`].
pub async fn enroll_password(token: &str, password: &str) -> Result<(), EnrollError> {
    let token = EnrollmentToken::read(token, &[EnrollmentMethod::Updb])?;
    let rest = Rest::discover(tls::trusting(trusted(&token).await?)?, &token.claims().iss).await?;
    let body = EnrollPassword { username: None, password: password.into() };
    let body = serde_json::to_string(&body).expect("text fields serialize");
    rest.data::<Value>("enroll", request(&rest, &token, (body, "application/json"))).await?;
    Ok(())
}

/// Redeems the enrollment token of an edge router.
///
/// `address` is the `host:port` where the router will accept clients and links; its certificate is
/// valid for that host. None for a router that only dials out.
///
/// # Errors
/// See [`EnrollError`].
pub async fn enroll_router(token: &str, address: Option<&str>) -> Result<Identity, EnrollError> {
    let token = EnrollmentToken::read(token, &[EnrollmentMethod::Erott])?;
    let address = address.map(str::to_owned);
    redeem(&token, |csr| {
        let body = serde_json::to_string(&EnrollRouter { csr, address });
        (body.expect("text fields serialize"), "application/json")
    })
    .await
}

async fn redeem(
    token: &EnrollmentToken,
    body: impl FnOnce(String) -> (String, &'static str),
) -> Result<Identity, EnrollError> {
    let claims = token.claims();
    let rest = Rest::discover(tls::trusting(trusted(token).await?)?, &claims.iss).await?;
    let (key, csr) = key_and_request(&claims.sub)?;
    let body = body(csr);
    let enrolled: Enrolled = rest.data("enroll", request(&rest, token, body)).await?;

    let identity = Identity::new(claims.iss.clone(), key, enrolled.cert, enrolled.ca)
        .map_err(EnrollError::Answer)?;
    // A certificate for another key is noticed here and not at the first use.
    identity.client_config(&REST_ALPN)?;
    Ok(identity)
}

/// The certificates to trust, from a controller whose certificate's key signed the token.
async fn trusted(token: &EnrollmentToken) -> Result<Vec<CertificateDer<'static>>, EnrollError> {
    let first = Rest::discover(tls::first_contact(token.clone())?, &token.claims().iss).await?;
    let request =
        first.get_root("/.well-known/est/cacerts").header(ACCEPT, "application/pkcs7-mime");
    Ok(bundle::read(&first.text("fetch the CA bundle", request).await?)?)
}

fn request(
    rest: &Rest,
    token: &EnrollmentToken,
    (body, content_type): (String, &str),
) -> RequestBuilder {
    let claims = token.claims();
    rest.post("/enroll")
        .query(&[("method", claims.em.as_str()), ("token", &claims.jti)])
        .header(CONTENT_TYPE, content_type)
        .body(body)
}
