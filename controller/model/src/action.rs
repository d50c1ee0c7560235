//! What is done to entities.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was done to an entity.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It was created.
    Create,
    /// It was changed.
    Update,
    /// It was deleted.
    Delete,
    /// What operators note beside it was changed.
    SetTags,
    /// It got its certificate.
    Enroll,
    /// It may enroll.
    OfferEnrollment,
    /// It may not enroll any more.
    WithdrawEnrollment,
    /// It got the certificate that follows its present one.
    OfferCertificate,
    /// It authenticates with another certificate.
    SetCertificate,
    /// It cannot authenticate with its certificate any more.
    RemoveCertificate,
    /// It was put in quarantine.
    Quarantine,
    /// Its quarantine ended.
    Release,
    /// It got a password.
    SetPassword,
    /// Its password was taken away.
    RemovePassword,
    /// It got a second factor.
    EnrollMfa,
    /// The recovery codes of its second factor were replaced.
    ReplaceRecoveryCodes,
    /// Its second factor was taken away.
    RemoveMfa,
    /// Its second factor is asked for again.
    RequireMfa,
}
