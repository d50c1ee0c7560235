//! `POST /enroll`: a one-time token, or a certificate of others, becomes the means to authenticate.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    response::Response,
};
use nightgate_model::{
    api::{EnrollPassword, EnrollRouter, EnrollWithToken, Enrolled},
    auth::default_policy,
    ca::{NameParts, identity_name},
    entity::{Ca, Identity},
    id::{CaId, IdentityId},
    spec::{Entity as _, IdentitySpec},
    token::EnrollmentMethod,
};
use nightgate_pki::{ForeignCertificate, Issued};
use nightgate_store::{
    Author, Certificate, EnrollmentTarget, EnrollmentToken, PasswordLogin, PendingEnrollment,
    Redeemed, Step,
};
use rustls_pki_types::UnixTime;
use serde::Deserialize;
use serde_json::json;

use crate::{
    Address, clock,
    core::{Core, Memory},
    rest::{
        Failure, Peer, answer,
        body::{Raw, parse},
        management::{auth_policies::check_password, validate},
    },
};

/// Query of `POST /enroll`.
#[derive(Deserialize)]
pub(crate) struct Parameters {
    method: EnrollmentMethod,
    #[serde(default)]
    token: String,
}

/// Body of an enrollment with a certificate of others.
#[derive(Default, Deserialize)]
struct Request {
    /// The name that a new identity asks for.
    #[serde(default)]
    name: Option<String>,
}

/// What becomes of an accepted enrollment.
struct Accepted {
    redeemed: Redeemed,
    answer: Response,
}

/// `POST /enroll?method=METHOD&token=TOKEN`. The body is, for
///
/// | method | body |
/// |---|---|
/// | ott | a certificate signing request in PEM |
/// | erott | an [`EnrollRouter`] |
/// | ottca | anything; the certificate is the one of the TLS connection |
/// | ca | nothing, or the name asked for; there is no token; the certificate as above |
/// | updb | an [`EnrollPassword`] |
///
/// The answer is an [`Enrolled`], but for updb. The token is used up in the transaction that records the
/// certificate or password, so of two callers one gets what counts.
pub(crate) async fn enroll(
    State(core): State<Arc<Core>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    peer: Peer,
    Raw(body): Raw,
) -> Result<Response, Failure> {
    counted(&core, &peer, async {
        let Query(Parameters { method, token }) = parameters.map_err(|rejection| {
            Failure::bad_request("INVALID_ENROLL_METHOD", rejection.body_text())
        })?;
        redeem(&core, method, token, &peer, &body).await
    })
    .await
}

/// `POST /enroll/METHOD`, as newer clients enroll: the token is in the body.
pub(crate) async fn enroll_by_path(
    State(core): State<Arc<Core>>,
    Path(method): Path<String>,
    peer: Peer,
    Raw(body): Raw,
) -> Result<Response, Failure> {
    counted(&core, &peer, async {
        let method: EnrollmentMethod =
            serde_json::from_value(json!(method)).map_err(|_unknown| Failure::unknown_path())?;
        match method {
            EnrollmentMethod::Ca => redeem(&core, method, String::new(), &peer, &body).await,
            EnrollmentMethod::Ott => {
                let EnrollWithToken { token, client_csr } = parse(&body)?;
                redeem(&core, method, token, &peer, client_csr.as_bytes()).await
            }
            EnrollmentMethod::Ottca | EnrollmentMethod::Updb => {
                let EnrollWithToken { token, .. } = parse(&body)?;
                redeem(&core, method, token, &peer, &body).await
            }
            EnrollmentMethod::Erott => Err(Failure::unknown_path()),
        }
    })
    .await
}

/// Refuses a source that has failed too often, and counts its failures.
async fn counted(
    core: &Core,
    peer: &Peer,
    enrollment: impl Future<Output = Result<Response, Failure>>,
) -> Result<Response, Failure> {
    if core.failed_enrollments.is_over(peer.source, clock::timestamp()) {
        return Err(Failure::too_many_requests());
    }
    let outcome = enrollment.await;
    if outcome.is_err() {
        core.failed_enrollments.count(peer.source, clock::timestamp());
    }
    outcome
}

async fn redeem(
    core: &Arc<Core>,
    method: EnrollmentMethod,
    token: String,
    peer: &Peer,
    body: &[u8],
) -> Result<Response, Failure> {
    if method == EnrollmentMethod::Ca {
        return by_certificate(core, peer, body).await;
    }
    let token = EnrollmentToken::new(token);
    let pending = core.read(|memory| memory.model.enrollments.get(&token.id()).cloned());
    let is_good = |pending: &PendingEnrollment| {
        pending.method == method && pending.expires_at > clock::timestamp()
    };
    let pending = pending.filter(is_good).ok_or_else(Failure::invalid_token)?;
    let Accepted { redeemed, answer } = accept(core, pending, peer, body).await?;
    core.edit(author(), move |_| Ok::<_, Failure>((vec![Step::Redeem { token, redeemed }], ())))
        .await?;
    Ok(answer)
}

/// What the enrollment comes to; it counts for nothing until the store has it.
async fn accept(
    core: &Core,
    pending: PendingEnrollment,
    peer: &Peer,
    body: &[u8],
) -> Result<Accepted, Failure> {
    match (pending.method, pending.target) {
        (EnrollmentMethod::Ott, EnrollmentTarget::Identity(id)) => {
            let issued = core.authority.sign_identity(body, &id, clock::now())?;
            let answer = answer_certificate(core, &issued.chain_pem);
            Ok(Accepted { redeemed: Redeemed::Identity { id, certificate: own(issued) }, answer })
        }
        (EnrollmentMethod::Ottca, EnrollmentTarget::Identity(id)) => {
            let certificate = foreign(core, peer, |ca| {
                ca.is_ott_ca_enrollment_enabled && pending.ca.as_ref() == Some(&ca.id)
            })?;
            let answer = answer_certificate(core, &certificate.pem);
            Ok(Accepted { redeemed: Redeemed::Identity { id, certificate }, answer })
        }
        (EnrollmentMethod::Updb, EnrollmentTarget::Identity(identity)) => {
            let EnrollPassword { username, password } = parse(body)?;
            let expected = pending.username.unwrap_or_default();
            if username.is_some_and(|username| username != expected) {
                return Err(Failure::invalid("username: not the one that the token is for"));
            }
            core.read(|memory| check_password(&identity, &password, &memory.model))?;
            let hash = core.passwords.hash(password).await?;
            let login = PasswordLogin { identity, username: expected, hash };
            Ok(Accepted { redeemed: Redeemed::Password(login), answer: answer::ok(json!({})) })
        }
        (EnrollmentMethod::Erott, EnrollmentTarget::Router(id)) => {
            let EnrollRouter { csr, address } = parse(body)?;
            let address = address.map(|text| text.parse::<Address>()).transpose();
            let address = address.map_err(|error| Failure::invalid(error.to_string()))?;
            let host = address.as_ref().map(Address::host);
            let issued = core.authority.sign_router(csr.as_bytes(), &id, host, clock::now())?;
            let answer = answer_certificate(core, &issued.chain_pem);
            let address = address.map(|address| address.to_string());
            let redeemed = Redeemed::Router { id, certificate: own(issued), address };
            Ok(Accepted { redeemed, answer })
        }
        (
            EnrollmentMethod::Ott
            | EnrollmentMethod::Ottca
            | EnrollmentMethod::Updb
            | EnrollmentMethod::Erott
            | EnrollmentMethod::Ca,
            _,
        ) => Err(Failure::invalid_token()),
    }
}

/// Whoever holds a certificate of a CA that is open for it becomes an identity.
async fn by_certificate(core: &Arc<Core>, peer: &Peer, body: &[u8]) -> Result<Response, Failure> {
    let request: Request = if body.is_empty() { Request::default() } else { parse(body)? };
    let certificate = foreign(core, peer, |ca| ca.is_auto_ca_enrollment_enabled)?;
    let answer = answer_certificate(core, &certificate.pem);
    let id = IdentityId::new(uuid::Uuid::new_v4().to_string());
    core.edit(author(), move |memory| {
        let identity = new_identity(memory, &id, &certificate, request.name.as_deref())?;
        validate::name(&identity.name)?;
        let certify = Step::Certify(EnrollmentTarget::Identity(id), certificate);
        Ok::<_, Failure>((vec![Step::Create(identity.into()), certify], ()))
    })
    .await?;
    Ok(answer)
}

fn new_identity(
    memory: &Memory,
    id: &IdentityId,
    certificate: &Certificate,
    requested: Option<&str>,
) -> Result<Identity, Failure> {
    let model = &memory.model;
    if model.identity_by_fingerprint(&certificate.fingerprint).is_some() {
        return Err(Failure::conflict("an identity has enrolled with this certificate already"));
    }
    let ca = certificate.ca.as_ref().and_then(|ca| model.cas.get(ca)).map(|stored| &stored.entity);
    let ca = ca.ok_or_else(Failure::untrusted_certificate)?;
    let common_name = ForeignCertificate::from_pem(&certificate.pem)?.common_name();
    let parts = NameParts {
        ca_id: ca.id.as_str(),
        ca_name: &ca.name,
        common_name: &common_name,
        requested_name: requested.unwrap_or(&common_name),
        identity_id: id.as_str(),
    };
    let is_taken = |name: &str| model.identities.values().any(|stored| stored.entity.name == name);
    let spec = IdentitySpec {
        name: identity_name(&ca.identity_name_format, parts, is_taken),
        is_admin: false,
        disabled: false,
        role_attributes: ca.identity_roles.clone(),
        auth_policy_id: default_policy(),
    };
    Ok(Identity::new(id.clone(), spec))
}

/// The certificate whose key the peer proved to hold, if it comes from a CA of others that is good for this.
/// Says the same whatever is wrong: the peer may be anybody.
fn foreign(
    core: &Core,
    peer: &Peer,
    is_good: impl Fn(&Ca) -> bool,
) -> Result<Certificate, Failure> {
    let issuer = core.trust.issuer(&peer.chain, UnixTime::now());
    let find = |id: CaId| {
        core.read(|memory| memory.model.cas.get(&id).is_some_and(|stored| is_good(&stored.entity)))
            .then_some(id)
    };
    let ca = issuer.and_then(find).ok_or_else(Failure::untrusted_certificate)?;
    let leaf = peer.chain.first().ok_or_else(Failure::untrusted_certificate)?;
    let leaf = ForeignCertificate::from_der(leaf)?;
    Ok(Certificate::first(leaf.fingerprint(), leaf.pem(), Some(ca)))
}

fn own(issued: Issued) -> Certificate {
    Certificate::first(issued.fingerprint, issued.chain_pem, None)
}

fn author() -> Author {
    Author { id: String::new(), name: "enrollment".into() }
}

fn answer_certificate(core: &Core, pem: &str) -> Response {
    answer::ok(Enrolled { cert: pem.into(), ca: core.authority.bundle().pem().into() })
}
