//! What the audit log says about a change.

use nightgate_model::{id::IdentityId, kind::EntityKind};
use nightgate_store::{
    Action, AnyEntity, AuditRecord, Author, Certificate, EnrollmentTarget, Model,
    OfferedCertificate, Redeemed, SecondFactor, Step, Whose,
};
use serde_json::{Value, json};

/// One record for each step that changes an entity; `model` is as it was before.
pub(super) fn records(model: &Model, author: &Author, steps: &[Step]) -> Vec<AuditRecord> {
    steps.iter().filter_map(|step| record(model, author, step)).collect()
}

fn record(model: &Model, author: &Author, step: &Step) -> Option<AuditRecord> {
    let record = |action, (kind, id, name): (EntityKind, &str, &str), before, after| AuditRecord {
        author: author.clone(),
        action,
        kind,
        id: id.into(),
        name: name.into(),
        before,
        after,
    };
    let of_identity = |action, identity: &IdentityId| {
        let (name, _) = model.describe(EntityKind::Identity, identity.as_str())?;
        let subject = (EntityKind::Identity, identity.as_str(), name.as_str());
        Some(record(action, subject, None, None))
    };
    let of_target = |action, target: &EnrollmentTarget, fingerprint: &String| {
        let (kind, id) = target.subject();
        let (name, _) = model.describe(kind, id)?;
        let after = json!({ "fingerprint": fingerprint });
        Some(record(action, (kind, id, &name), None, Some(after)))
    };
    match step {
        Step::Create(any) => Some(record(Action::Create, named(any), None, Some(any.to_json()))),
        Step::Update(any) => {
            let before = model.describe(any.kind(), any.id()).map(|(_, before)| before);
            Some(record(Action::Update, named(any), before, Some(any.to_json())))
        }
        Step::SetTags(kind, id, tags) => {
            // Of one that was made with them, its name is not known yet.
            let (name, _) = model.describe(*kind, id)?;
            let before = model.tags(*kind, id).map(|tags| json!({ "tags": tags }));
            let after = Some(json!({ "tags": tags }));
            Some(record(Action::SetTags, (*kind, id, &name), before, after))
        }
        Step::Delete(kind, id) => {
            let (name, before) = model.describe(*kind, id)?;
            Some(record(Action::Delete, (*kind, id, &name), Some(before), None))
        }
        Step::Enroll(target, _) => {
            let (kind, id) = target.subject();
            // One that is made with its entity says nothing that the entity does not.
            let (name, _) = model.describe(kind, id)?;
            Some(record(Action::OfferEnrollment, (kind, id, &name), None, None))
        }
        Step::DeleteEnrollment(id) => {
            let (kind, id) = model.enrollments.get(id)?.target.subject();
            let (name, _) = model.describe(kind, id)?;
            Some(record(Action::WithdrawEnrollment, (kind, id, &name), None, None))
        }
        Step::Quarantine(quarantine) => {
            let (name, _) = model.describe(EntityKind::Identity, quarantine.identity.as_str())?;
            let subject = (EntityKind::Identity, quarantine.identity.as_str(), name.as_str());
            let before = model.quarantines.get(&quarantine.identity).map(|before| json!(before));
            Some(record(Action::Quarantine, subject, before, Some(json!(quarantine))))
        }
        Step::Release(identity) => of_identity(Action::Release, identity),
        // That a code was used is no change for anybody but its holder.
        Step::SetMfa(mfa) => {
            let before = model.mfas.get(&mfa.identity);
            let was_verified = before.is_some_and(|before| before.is_verified);
            match (was_verified, mfa.is_verified) {
                (false, true) => of_identity(Action::EnrollMfa, &mfa.identity),
                (true, true) if before.is_some_and(|before| before.sealed != mfa.sealed) => {
                    of_identity(Action::ReplaceRecoveryCodes, &mfa.identity)
                }
                _ => None,
            }
        }
        Step::RemoveMfa(identity) => of_identity(Action::RemoveMfa, identity),
        Step::SetSecondFactor(Whose::Identity(identity), SecondFactor::Due) => {
            of_identity(Action::RequireMfa, identity)
        }
        Step::SetSecondFactor(..) => None,
        Step::SetPassword(login) => of_identity(Action::SetPassword, &login.identity),
        Step::RemovePassword(identity) => of_identity(Action::RemovePassword, identity),
        Step::Certify(target, Certificate { fingerprint, .. }) => {
            of_target(Action::SetCertificate, target, fingerprint)
        }
        // It follows from a change that says so.
        Step::EndSessions(..) => None,
        Step::OfferCertificate(target, OfferedCertificate { fingerprint, .. }) => {
            of_target(Action::OfferCertificate, target, fingerprint)
        }
        Step::Decertify(identity) => of_identity(Action::RemoveCertificate, identity),
        Step::Redeem { redeemed: Redeemed::Password(login), .. } => {
            of_identity(Action::SetPassword, &login.identity)
        }
        Step::Redeem { redeemed, .. } => {
            let (kind, id) = redeemed.subject();
            let (name, before) = model.describe(kind, id)?;
            let after = enrolled(&before, redeemed);
            Some(record(Action::Enroll, (kind, id, &name), Some(before), Some(after)))
        }
    }
}

fn named(any: &AnyEntity) -> (EntityKind, &str, &str) {
    (any.kind(), any.id(), any.name())
}

fn enrolled(before: &Value, redeemed: &Redeemed) -> Value {
    let mut after = before.clone();
    match redeemed {
        Redeemed::Password(_) => {}
        Redeemed::Identity { certificate, .. } => {
            after["fingerprint"] = certificate.fingerprint.clone().into();
        }
        Redeemed::Router { certificate, address, .. } => {
            after["fingerprint"] = certificate.fingerprint.clone().into();
            after["address"] = address.clone().into();
        }
    }
    after
}
