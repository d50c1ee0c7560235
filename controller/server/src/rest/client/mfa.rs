//! The second factor of the caller, with OpenZiti's paths.

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap, response::Response};
use nightgate_store::{Mfa, SecondFactor, Step, Timestamp, Whose};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    clock,
    core::{Core, Memory, steps_to_remove_factor},
    mfa::{Factor, Used},
    rest::{
        Failure, answer,
        api::{Access, Api},
        body::{Body, Raw, parse},
        caller::{Caller, Partial},
        shape::entity,
    },
};

/// Header with a code, of calls that have no body.
const CODE_HEADER: &str = "mfa-validation-code";

/// A code of the authenticator app, or a recovery code.
#[derive(Deserialize)]
pub(crate) struct Code {
    code: String,
}

/// Also for sessions that wait for their second factor.
pub(crate) fn api() -> Api {
    Api::new(Access::Session)
        .post("/authenticate/mfa", "Show the second factor", authenticate)
        .get("/current-identity/mfa", "The caller's second factor", show)
        .post("/current-identity/mfa", "Enroll one", enroll)
        .delete("/current-identity/mfa", "Remove it, with a code", remove)
        .post("/current-identity/mfa/verify", "End its enrollment, with a code", verify)
        .get("/current-identity/mfa/recovery-codes", "Recovery codes, for a code", recovery_codes)
        .post("/current-identity/mfa/recovery-codes", "Other ones, for a code", replace_codes)
}

/// `GET /current-identity/mfa`: how to set an authenticator app up, until its first code has been verified.
async fn show(
    State(core): State<Arc<Core>>,
    Partial(caller): Partial,
) -> Result<Response, Failure> {
    let mfa = core.read(|memory| memory.model.mfas.get(&caller.identity.id).cloned());
    let mfa = mfa.ok_or_else(|| Failure::not_found("the second factor"))?;
    let mut shaped = json!({ "isVerified": mfa.is_verified });
    if !mfa.is_verified {
        let factor = Factor::open(core.authority.seal(), &mfa)?;
        shaped["provisioningUrl"] = factor.provisioning_url(&caller.identity.name).into();
        shaped["recoveryCodes"] = factor.recovery_codes.into();
    }
    Ok(answer::ok(detail(&mfa, shaped)))
}

/// `POST /current-identity/mfa`: in the place of one that was not verified.
async fn enroll(
    State(core): State<Arc<Core>>,
    Partial(caller): Partial,
) -> Result<Response, Failure> {
    let identity = caller.identity.id.clone();
    let id = uuid::Uuid::new_v4().to_string();
    let mfa = Mfa {
        id: id.clone(),
        is_verified: false,
        sealed: Factor::generate().seal(core.authority.seal(), &identity)?,
        last_step: 0,
        created_at: clock::timestamp(),
        identity,
    };
    core.edit(caller.author(), move |memory| {
        if memory.model.verified_mfa(&mfa.identity).is_some() {
            return Err(Failure::mfa_exists());
        }
        Ok((vec![Step::SetMfa(mfa)], ()))
    })
    .await?;
    let href = "./current-identity/mfa";
    Ok(answer::created(json!({ "id": id, "_links": { "self": { "href": href } } })))
}

/// `POST /current-identity/mfa/verify`: from now on, sessions that begin wait for a code. This one has shown it.
async fn verify(
    State(core): State<Arc<Core>>,
    Partial(caller): Partial,
    Body(Code { code }): Body<Code>,
) -> Result<Response, Failure> {
    let session = caller.session.id.clone();
    with_code(&core, &caller, code, move |_, factor: Checked| {
        if factor.mfa.is_verified {
            return Err(Failure::mfa_exists());
        }
        // A recovery code does not prove that the app works.
        let Used::Step(last_step) = factor.used else { return Err(Failure::invalid_code()) };
        let passed = SecondFactor::Passed(factor.at);
        Ok(vec![
            Step::SetMfa(Mfa { is_verified: true, last_step, ..factor.mfa }),
            Step::SetSecondFactor(Whose::Session(session), passed),
        ])
    })
    .await?;
    Ok(answer::ok(json!({})))
}

/// `POST /authenticate/mfa`.
async fn authenticate(
    State(core): State<Arc<Core>>,
    Partial(caller): Partial,
    Body(Code { code }): Body<Code>,
) -> Result<Response, Failure> {
    let (session, seal) = (caller.session.id.clone(), Arc::clone(&core));
    with_code(&core, &caller, code, move |memory, factor: Checked| {
        if !factor.mfa.is_verified {
            return Err(Failure::mfa_not_enrolled());
        }
        let asked = memory.model.awaits_code(&factor.mfa.identity);
        let released = asked.then(|| Step::Release(factor.mfa.identity.clone()));
        let used = Step::SetMfa(factor.after_use(&seal)?);
        let passed =
            Step::SetSecondFactor(Whose::Session(session), SecondFactor::Passed(factor.at));
        Ok([used, passed].into_iter().chain(released).collect())
    })
    .await?;
    Ok(answer::ok(json!({})))
}

/// `DELETE /current-identity/mfa`: one that was not verified goes without a code.
async fn remove(
    State(core): State<Arc<Core>>,
    Partial(caller): Partial,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response, Failure> {
    let identity = caller.identity.id.clone();
    let steps = move |memory: &Memory| steps_to_remove_factor(&memory.model, &identity);
    let known =
        core.read(|memory| memory.model.mfas.get(&caller.identity.id).map(|mfa| mfa.is_verified));
    if known.ok_or_else(|| Failure::not_found("the second factor"))? {
        let code = code_of(&headers, &body)?;
        with_code(&core, &caller, code, move |memory, _| Ok(steps(memory))).await?;
    } else {
        let identity = caller.identity.id.clone();
        core.edit(caller.author(), move |memory| {
            // It may have been verified in between.
            match memory.model.verified_mfa(&identity) {
                Some(_) => Err(Failure::invalid_code()),
                None => Ok((steps(memory), ())),
            }
        })
        .await?;
    }
    Ok(answer::ok(json!({})))
}

/// `GET /current-identity/mfa/recovery-codes`: those that are left. The code is looked at and not used up: OpenZiti's
/// clients give the one again that they have just replaced the codes with.
async fn recovery_codes(
    State(core): State<Arc<Core>>,
    Partial(caller): Partial,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response, Failure> {
    let code = code_of(&headers, &body)?;
    let mfa = core.read(|memory| memory.model.verified_mfa(&caller.identity.id).cloned());
    let mfa = mfa.ok_or_else(|| Failure::not_found("the second factor"))?;
    let factor = Factor::open(core.authority.seal(), &mfa)?;
    let (who, now) = (caller.identity.id.as_str(), clock::timestamp());
    if let Some(wait) = core.wrong_codes.wait(who, now) {
        return Err(Failure::too_many_codes(wait));
    }
    let is_right = factor.step(code.trim(), now).is_some_and(|step| step >= mfa.last_step);
    if !is_right {
        core.wrong_codes.count(who, false, now);
        return Err(Failure::invalid_code());
    }
    Ok(answer::ok(detail(&mfa, json!({ "recoveryCodes": factor.recovery_codes }))))
}

/// `POST /current-identity/mfa/recovery-codes`: in the place of those that there are.
async fn replace_codes(
    State(core): State<Arc<Core>>,
    Partial(caller): Partial,
    Body(Code { code }): Body<Code>,
) -> Result<Response, Failure> {
    let seal = Arc::clone(&core);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    with_code(&core, &caller, code, move |_, factor: Checked| {
        if !factor.mfa.is_verified {
            return Err(Failure::mfa_not_enrolled());
        }
        let mfa = factor.after_use(&seal)?;
        let renewed = factor.factor.with_new_recovery_codes();
        let sealed = renewed.seal(seal.authority.seal(), &mfa.identity)?;
        let mfa = Mfa { sealed, ..mfa };
        let shaped = detail(&mfa, json!({ "recoveryCodes": renewed.recovery_codes }));
        // Nobody waits for it if the caller has gone.
        drop(sender.send(shaped));
        Ok(vec![Step::SetMfa(mfa)])
    })
    .await?;
    receiver.await.map(answer::ok).or(Err(Failure::invalid_code()))
}

/// A second factor of which a code was right.
struct Checked {
    mfa: Mfa,
    factor: Factor,
    used: Used,
    at: Timestamp,
}

impl Checked {
    /// The factor without the code that was used.
    fn after_use(&self, core: &Core) -> Result<Mfa, Failure> {
        let mfa = self.mfa.clone();
        Ok(match &self.used {
            Used::Step(last_step) => Mfa { last_step: *last_step, ..mfa },
            Used::Recovery(left) => {
                Mfa { sealed: left.seal(core.authority.seal(), &mfa.identity)?, ..mfa }
            }
        })
    }
}

/// Makes a change if a code is right. Codes are looked at one after the other, so that none is used twice, and nobody tries
/// more of them than may be tried.
async fn with_code(
    core: &Arc<Core>,
    caller: &Caller,
    code: String,
    plan: impl FnOnce(&Memory, Checked) -> Result<Vec<Step>, Failure> + Send + 'static,
) -> Result<(), Failure> {
    let (looking, identity) = (Arc::clone(core), caller.identity.id.clone());
    core.edit(caller.author(), move |memory| {
        let mfa = memory.model.mfas.get(&identity).ok_or_else(Failure::mfa_not_enrolled)?.clone();
        let at = clock::timestamp();
        if let Some(wait) = looking.wrong_codes.wait(identity.as_str(), at) {
            return Err(Failure::too_many_codes(wait));
        }
        let factor = Factor::open(looking.authority.seal(), &mfa)?;
        let used = factor.accept(&code, mfa.last_step, at);
        looking.wrong_codes.count(identity.as_str(), used.is_some(), at);
        let used = used.ok_or_else(Failure::invalid_code)?;
        Ok((plan(memory, Checked { mfa, factor, used, at })?, ()))
    })
    .await
}

/// The code of a call that OpenZiti's clients make without a body.
fn code_of(headers: &HeaderMap, body: &[u8]) -> Result<String, Failure> {
    let header = headers.get(CODE_HEADER).and_then(|code| code.to_str().ok());
    match header {
        Some(code) => Ok(code.to_owned()),
        None if body.is_empty() => Err(Failure::invalid_code()),
        None => parse::<Code>(body).map(|Code { code }| code),
    }
}

fn detail(mfa: &Mfa, own: Value) -> Value {
    entity("current-identity/mfa", &mfa.id, (mfa.created_at, mfa.created_at), own)
}
