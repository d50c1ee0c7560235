//! The second factor of an identity: a one-time password by time (RFC 6238).

use nightgate_model::api::Envelope;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Context, rest::ControllerError};

const MFA: &str = "/current-identity/mfa";
const RECOVERY_CODES: &str = "/current-identity/mfa/recovery-codes";

/// Header with a code, of requests without a body.
const CODE_HEADER: &str = "mfa-validation-code";

/// A second factor that is not verified yet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecondFactorEnrollment {
    /// What an authenticator app is set up with: an `otpauth:` address that holds the secret.
    pub provisioning_url: String,
    /// Codes for whoever loses the app, each good once.
    pub recovery_codes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecoveryCodes {
    recovery_codes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    is_mfa_enabled: bool,
}

impl Context {
    /// Whether the controller waits for a code of the second factor. Until it is shown, dials and binds fail.
    pub fn is_second_factor_due(&self) -> bool {
        self.inner().controller.is_due()
    }

    /// Returns when the controller waits for a code of the second factor (`true`), or does not any more (`false`); at once if
    /// that is so.
    pub async fn second_factor_becomes_due(&self, is_due: bool) {
        self.inner().controller.becomes_due(is_due).await;
    }

    /// Shows a code of the second factor, or a recovery code. Connects to edge routers if nothing else was missing.
    ///
    /// # Errors
    /// The controller did not answer, or refused the code: it is wrong, too old or was used.
    pub async fn show_second_factor(&self, code: &str) -> Result<(), ControllerError> {
        let inner = self.inner();
        inner.controller.show_second_factor(code).await?;
        let routers = inner.controller.edge_routers().await?;
        // Those that have refused the session so far are tried anew at once.
        inner.pool.replace(&[]);
        inner.pool.add(&routers);
        Ok(())
    }

    /// Whether the identity has a second factor, which was verified.
    ///
    /// # Errors
    /// The controller did not answer or refused.
    pub async fn has_second_factor(&self) -> Result<bool, ControllerError> {
        let known: Known = self
            .inner()
            .controller
            .about_second_factor("look at the identity", |rest| rest.get("/current-identity"))
            .await?;
        Ok(known.is_mfa_enabled)
    }

    /// Gives the identity a second factor. It counts from [`verify_second_factor`](Self::verify_second_factor) on.
    ///
    /// # Errors
    /// The identity has one already, or the controller did not answer.
    pub async fn enroll_second_factor(&self) -> Result<SecondFactorEnrollment, ControllerError> {
        let controller = &self.inner().controller;
        let operation = "enroll a second factor";
        let _: Value =
            controller.about_second_factor(operation, |rest| rest.post(MFA).body("{}")).await?;
        controller.about_second_factor(operation, |rest| rest.get(MFA)).await
    }

    /// Ends the enrollment of a second factor with its first code. From now on, sessions that begin wait for a code.
    ///
    /// # Errors
    /// The code is wrong, or the controller did not answer.
    pub async fn verify_second_factor(&self, code: &str) -> Result<(), ControllerError> {
        let body = json!({ "code": code }).to_string();
        let path = format!("{MFA}/verify");
        let controller = &self.inner().controller;
        let _: Value = controller
            .about_second_factor("verify the second factor", |rest| {
                rest.post(&path).header("content-type", "application/json").body(body.clone())
            })
            .await?;
        controller.renew().await
    }

    /// Takes the second factor away.
    ///
    /// # Errors
    /// The code is wrong, there is no second factor, or the controller did not answer.
    pub async fn remove_second_factor(&self, code: &str) -> Result<(), ControllerError> {
        let controller = &self.inner().controller;
        let _: Value = controller
            .about_second_factor("remove the second factor", |rest| {
                rest.delete(MFA).header(CODE_HEADER, code)
            })
            .await?;
        controller.renew().await
    }

    /// The recovery codes that are left; `renew` replaces them before.
    ///
    /// # Errors
    /// The code is wrong, there is no second factor, or the controller did not answer.
    pub async fn recovery_codes(
        &self,
        code: &str,
        renew: bool,
    ) -> Result<Vec<String>, ControllerError> {
        let body = json!({ "code": code }).to_string();
        let controller = &self.inner().controller;
        let codes: RecoveryCodes = controller
            .about_second_factor("read recovery codes", |rest| {
                if renew {
                    let request = rest.post(RECOVERY_CODES);
                    request.header("content-type", "application/json").body(body.clone())
                } else {
                    rest.get(RECOVERY_CODES).header(CODE_HEADER, code)
                }
            })
            .await?;
        Ok(codes.recovery_codes)
    }
}

/// Reads bytes as answers about second factors.
pub(crate) fn read_answers(bytes: &[u8]) {
    drop(serde_json::from_slice::<Envelope<SecondFactorEnrollment>>(bytes));
    drop(serde_json::from_slice::<Envelope<RecoveryCodes>>(bytes));
}
