//! Certificate authorities of others.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use nightgate_model::{entity::Ca, id::IdentityId};
use nightgate_pki::ForeignCertificate;
use nightgate_store::{Model, Step, Stored};
use serde_json::{Value, json};

use super::{
    enrollments,
    entities::{Common, Seen, find, update},
    resource::{Resource, View},
    signing::Signing,
    validate,
};
use crate::{
    clock,
    core::Core,
    rest::{
        Failure, answer,
        api::{Access, Api},
        body::Raw,
        caller::{Admin, Caller},
        shape,
    },
};

impl Resource for Ca {
    const FIELDS: &'static [&'static str] = &[
        "fingerprint",
        "isVerified",
        "isAuthEnabled",
        "isAutoCaEnrollmentEnabled",
        "isOttCaEnrollmentEnabled",
        "identityRoles",
        "identityNameFormat",
    ];

    const DEFAULTS: &'static [(&'static str, &'static [&'static str])] =
        &[("externalIdClaim", &["null"])];

    fn shape(stored: &Stored<Self>, _view: &View<'_>) -> Value {
        shape::ca(stored)
    }

    fn check(&self, _model: &Model) -> Result<(), Failure> {
        validate::name(&self.name)?;
        validate::attributes(&self.identity_roles)?;
        validate::name_format(&self.identity_name_format)?;
        Ok(ForeignCertificate::from_pem(&self.cert_pem)?.check_ca(clock::now())?)
    }

    fn check_change(&self, before: &Self, _caller: &Caller, _model: &Model) -> Result<(), Failure> {
        if self.cert_pem == before.cert_pem {
            return Ok(());
        }
        Err(Failure::conflict("certPem cannot be changed; register the certificate as another CA"))
    }

    /// Identities whose certificates come from it lose them: nobody vouches for them any more.
    fn with_deleted(&self, model: &Model) -> Vec<Step> {
        let identities = identities_of(self, model);
        identities.map(|identity| Step::Decertify(identity.clone())).collect()
    }
}

/// Routes of CAs besides those of every entity.
pub(super) fn api() -> Api {
    Api::new(Access::Administrator)
        .get("/cas/{id}/jwt", "The token by which its certificates enroll", token)
        .post("/cas/{id}/verify", "Prove to hold its key", verify)
}

/// The identities that authenticate with a certificate of this CA.
fn identities_of<'a>(ca: &'a Ca, model: &'a Model) -> impl Iterator<Item = &'a IdentityId> {
    let of_ca = model.certificates.iter().filter(|(_, c)| c.ca.as_ref() == Some(&ca.id));
    of_ca.map(|(identity, _)| identity)
}

/// `GET /cas/{id}/jwt`: by which anybody with a certificate of the CA enrolls.
async fn token(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
    Signing(algorithm): Signing,
) -> Result<Response, Failure> {
    let ca = core.read(|memory| find::<Ca>(&memory.model, &id).map(|ca| ca.entity.clone()))?;
    if !(ca.is_verified && ca.is_auto_ca_enrollment_enabled) {
        let message = "the CA has to be verified and isAutoCaEnrollmentEnabled";
        return Err(Failure::conflict(message));
    }
    let jwt = enrollments::ca_token(&core, &ca, algorithm)?;
    Ok(([(CONTENT_TYPE, "application/jwt")], jwt).into_response())
}

/// `POST /cas/{id}/verify`: the body is a certificate, PEM, with the CA's `verificationToken` as its common
/// name, signed with the CA's key.
async fn verify(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response, Failure> {
    let pem = String::from_utf8_lossy(&body).into_owned();
    update(&core, caller, id, Seen::of(&headers), Common::default(), move |ca: Ca| {
        if ca.is_verified {
            return Err(Failure::conflict("the CA is verified already"));
        }
        let certificate = ForeignCertificate::from_pem(&ca.cert_pem)?;
        let proof = ForeignCertificate::from_pem(&pem)?;
        certificate.check_proof(&proof, ca.id.as_str(), clock::now())?;
        Ok(Ca { is_verified: true, ..ca })
    })
    .await?;
    Ok(answer::ok(json!({})))
}
