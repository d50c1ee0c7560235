//! What the audit log says about a change.

use nightgate_model::kind::EntityKind;
use nightgate_store::{Action, AnyEntity, AuditRecord, Author, Model, Redeemed, Step};
use serde_json::Value;

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
    match step {
        Step::Create(any) => Some(record(Action::Create, named(any), None, Some(any.to_json()))),
        Step::Update(any) => {
            let before = model.describe(any.kind(), any.id()).map(|(_, before)| before);
            Some(record(Action::Update, named(any), before, Some(any.to_json())))
        }
        Step::Delete(kind, id) => {
            let (name, before) = model.describe(*kind, id)?;
            Some(record(Action::Delete, (*kind, id, &name), Some(before), None))
        }
        Step::Enroll(..) => None,
        Step::SetPassword(login) => {
            let (name, _) = model.describe(EntityKind::Identity, login.identity.as_str())?;
            let subject = (EntityKind::Identity, login.identity.as_str(), name.as_str());
            Some(record(Action::SetPassword, subject, None, None))
        }
        Step::RemovePassword(identity) => {
            let (name, _) = model.describe(EntityKind::Identity, identity.as_str())?;
            let subject = (EntityKind::Identity, identity.as_str(), name.as_str());
            Some(record(Action::RemovePassword, subject, None, None))
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
        Redeemed::Identity { fingerprint, .. } => {
            after["fingerprint"] = fingerprint.clone().into();
        }
        Redeemed::Router { fingerprint, address, .. } => {
            after["fingerprint"] = fingerprint.clone().into();
            after["address"] = address.clone().into();
        }
    }
    after
}
