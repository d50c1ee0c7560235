//! List, show, create, change and delete: the same for every kind of entity.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, header},
    response::Response,
};
use nightgate_model::{
    api::{Created, IdentityEnrollment},
    id::Identifier as _,
    kind::EntityKind,
    token::JwtAlgorithm,
};
use nightgate_store::{Model, Step, Stored, Tags};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    enrollments::{self, Wanted},
    resource::{Resource, View},
    signing::Signing,
    validate,
};
use crate::{
    core::{Core, Memory},
    rest::{
        Failure, answer,
        api::{Access, Api},
        body::Body,
        caller::{Admin, Caller},
        query::{ListQuery, Names},
        schema,
    },
};

/// The routes of one kind of entity.
pub(super) fn api<R: Resource>() -> Api {
    let (kind, list_path) = (R::KIND, format!("/{}", R::KIND.path()));
    let one_path = format!("{list_path}/{{id}}");
    let shown = schema::entity::<R::Spec>();
    Api::new(Access::Administrator)
        .get(&list_path, format!("List: {kind}"), list::<R>)
        .answers(schema::list(&shown))
        .post(&list_path, format!("Create: {kind}"), create::<R>)
        .takes(body::<R>())
        .answers(schema::of::<Created>())
        .get(&one_path, format!("Show: {kind}"), one::<R>)
        .answers(shown)
        .put(&one_path, format!("Replace: {kind}"), replace::<R>)
        .takes(schema::entity_body::<R::Spec>())
        .patch(&one_path, format!("Change: {kind}"), patch::<R>)
        .takes(schema::entity_patch::<R::Spec>())
        .delete(&one_path, format!("Delete: {kind}"), delete::<R>)
}

/// What a new one is made of.
fn body<R: Resource>() -> Value {
    let mut body = schema::entity_body::<R::Spec>();
    if R::KIND == EntityKind::Identity {
        body["properties"]["enrollment"] = schema::of::<IdentityEnrollment>();
    }
    body
}

/// Changes one entity, under the checks of every change: whoever asked has seen this version, the
/// result makes sense, and what belongs to it follows.
pub(super) async fn update<R: Resource>(
    core: &Arc<Core>,
    caller: Caller,
    id: String,
    seen: Seen,
    common: Common,
    change: impl FnOnce(R) -> Result<R, Failure> + Send + 'static,
) -> Result<(), Failure> {
    let author = caller.author();
    core.edit(author, move |memory| {
        let stored = find::<R>(&memory.model, &id)?;
        seen.check(stored)?;
        let entity = change(stored.entity.clone())?;
        let mut steps = steps_to_update(entity, &stored.entity, &caller, &memory.model)?;
        steps.extend(common.steps::<R>(&id));
        Ok((steps, ()))
    })
    .await
}

/// What makes `entity` of `before`.
pub(super) fn steps_to_update<R: Resource>(
    entity: R,
    before: &R,
    caller: &Caller,
    model: &Model,
) -> Result<Vec<Step>, Failure> {
    entity.check_change(before, caller, model)?;
    entity.check(model)?;
    let mut steps = entity.with_changed(model);
    steps.insert(0, Step::Update(entity.into()));
    Ok(steps)
}

/// What removes an entity.
pub(super) fn steps_to_delete<R: Resource>(
    entity: &R,
    caller: &Caller,
    model: &Model,
) -> Result<Vec<Step>, Failure> {
    entity.check_delete(caller, model)?;
    let mut steps = entity.with_deleted(model);
    steps.push(Step::Delete(R::KIND, entity.id().text().to_owned()));
    Ok(steps)
}

/// An entity to be made: its id, how it enrolls, and its token.
pub(super) struct New {
    pub(super) id: String,
    pub(super) enrollment_jwt: Option<String>,
    common: Common,
    wanted: Option<Wanted>,
    enroll: Option<Step>,
}

impl New {
    /// Chooses an id and signs the token, if the entity has to enroll.
    pub(super) fn prepare<R: Resource>(
        core: &Core,
        algorithm: JwtAlgorithm,
        fields: &mut Map<String, Value>,
    ) -> Result<Self, Failure> {
        let id = uuid::Uuid::new_v4().to_string();
        let wanted = wanted_enrollment::<R>(fields)?;
        let common = Common::take::<R>(fields)?;
        let issued = wanted
            .clone()
            .map(|wanted| {
                let target = enrollments::target(wanted.method, &id);
                wanted.issue(core, target, algorithm)
            })
            .transpose()?;
        let (enroll, enrollment_jwt) = issued.unzip();
        Ok(Self { id, enrollment_jwt, common, wanted, enroll })
    }

    /// What makes it.
    pub(super) fn steps<R: Resource>(self, entity: R, model: &Model) -> Result<Vec<Step>, Failure> {
        entity.check(model)?;
        self.wanted.map_or(Ok(()), |wanted| wanted.check(model))?;
        let mut steps = entity.with_created();
        steps.insert(0, Step::Create(entity.into()));
        steps.extend(self.common.steps::<R>(&self.id));
        steps.extend(self.enroll);
        Ok(steps)
    }
}

/// Which version of an entity a caller has seen: `If-Match` (RFC 9110 section 13.1.1).
pub(super) struct Seen(Option<String>);

impl Seen {
    /// Reads the header; without it, any version will do.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let seen = headers.get(header::IF_MATCH).and_then(|seen| seen.to_str().ok());
        Self(seen.filter(|seen| *seen != "*").map(str::to_owned))
    }

    fn check<T>(&self, stored: &Stored<T>) -> Result<(), Failure> {
        match &self.0 {
            Some(seen) if *seen != answer::etag(stored.updated_at) => Err(Failure::changed()),
            Some(_) | None => Ok(()),
        }
    }
}

async fn list<R: Resource>(
    State(core): State<Arc<Core>>,
    _: Admin,
    query: ListQuery,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let view = View::new(memory);
        let entries = R::table(&memory.model).values();
        let names = |stored: &&Stored<R>| Names {
            id: stored.entity.id().text().to_owned(),
            name: stored.entity.name().to_owned(),
        };
        query.answer(R::FIELDS, entries, names, |stored| R::shape(stored, &view))
    })
}

async fn one<R: Resource>(
    State(core): State<Arc<Core>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    core.read(|memory| {
        let stored = find::<R>(&memory.model, &id)?;
        Ok(answer::versioned(R::shape(stored, &View::new(memory)), stored.updated_at))
    })
}

/// Answers with the enrollment token, if the entity has to enroll.
async fn create<R: Resource>(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Signing(algorithm): Signing,
    Body(mut fields): Body<Map<String, Value>>,
) -> Result<Response, Failure> {
    let mut new = New::prepare::<R>(&core, algorithm, &mut fields)?;
    let (id, enrollment_jwt) = (new.id.clone(), new.enrollment_jwt.take());
    let entity = R::new(R::Id::from_text(&id), read(fields.into())?);
    let plan = move |memory: &Memory| Ok::<_, Failure>((new.steps(entity, &memory.model)?, ()));
    core.edit(caller.author(), plan).await?;
    tracing::info!(by = %caller.identity.id, id, kind = %R::KIND, "created");
    Ok(answer::created_entity(R::KIND, Created { id, enrollment_jwt }))
}

async fn replace<R: Resource>(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(mut fields): Body<Map<String, Value>>,
) -> Result<Response, Failure> {
    let common = Common::take::<R>(&mut fields)?.or_default();
    let spec = read(fields.into())?;
    let set = |mut entity: R| {
        entity.set(spec);
        Ok(entity)
    };
    update(&core, caller, id, Seen::of(&headers), common, set).await?;
    Ok(answer::ok(json!({})))
}

/// Merges the fields of the body into what was decided before (RFC 7396): a field that is not named
/// stays, one that is null gets its default.
async fn patch<R: Resource>(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(mut fields): Body<Map<String, Value>>,
) -> Result<Response, Failure> {
    let common = Common::take::<R>(&mut fields)?;
    let merge = |entity: R| merged(entity, fields);
    update(&core, caller, id, Seen::of(&headers), common, merge).await?;
    Ok(answer::ok(json!({})))
}

/// The entity with other values of some fields (RFC 7396).
pub(super) fn merged<R: Resource>(mut entity: R, fields: Map<String, Value>) -> Result<R, Failure> {
    let mut spec = serde_json::to_value(entity.spec()).unwrap_or_default();
    for (field, value) in fields {
        match (value, spec.as_object_mut()) {
            (Value::Null, Some(spec)) => drop(spec.remove(&field)),
            (value, Some(spec)) if R::NESTED.contains(&field.as_str()) => {
                merge(spec.entry(field).or_insert(Value::Null), value);
            }
            (value, Some(spec)) => drop(spec.insert(field, value)),
            (_, None) => {}
        }
    }
    entity.set(read(spec)?);
    Ok(entity)
}

/// Merges a value into another (RFC 7396).
fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (field, value) in patch {
                if value.is_null() {
                    target.remove(&field);
                } else {
                    merge(target.entry(field).or_insert(Value::Null), value);
                }
            }
        }
        (target, patch) => *target = patch,
    }
}

async fn delete<R: Resource>(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let by = caller.identity.id.clone();
    let deleted = id.clone();
    core.edit(caller.author(), move |memory| {
        let entity = &find::<R>(&memory.model, &id)?.entity;
        Ok::<_, Failure>((steps_to_delete(entity, &caller, &memory.model)?, ()))
    })
    .await?;
    tracing::info!(%by, id = deleted, kind = %R::KIND, "deleted");
    Ok(answer::ok(json!({})))
}

/// The entity with this id.
pub(super) fn find<'a, R: Resource>(model: &'a Model, id: &str) -> Result<&'a Stored<R>, Failure> {
    model.find(id).ok_or_else(|| Failure::not_found(&format!("the {}", R::KIND)))
}

/// How a new entity is to enroll: as the body says, where it may, or as its kind does.
fn wanted_enrollment<R: Resource>(
    fields: &mut Map<String, Value>,
) -> Result<Option<Wanted>, Failure> {
    let said = if R::KIND == EntityKind::Identity { fields.remove("enrollment") } else { None };
    match said {
        Some(said) => Wanted::for_identity(read::<IdentityEnrollment>(said)?),
        None => Ok(R::ENROLLMENT.map(Wanted::new)),
    }
}

/// What a body says besides the spec.
#[derive(Default)]
pub(super) struct Common {
    tags: Option<Tags>,
}

impl Common {
    /// Takes it out of a body, with fields of OpenZiti that ask for what is so anyway.
    pub(super) fn take<R: Resource>(fields: &mut Map<String, Value>) -> Result<Self, Failure> {
        for (field, allowed) in R::DEFAULTS {
            let Some(value) = fields.remove(*field) else { continue };
            if !allowed.contains(&value.to_string().as_str()) {
                let allowed = allowed.join(", ");
                let message = format!("{field}: {value} is not supported, only {allowed}");
                return Err(Failure::invalid(message));
            }
        }
        let tags = match fields.remove("tags") {
            None => None,
            Some(Value::Null) => Some(Tags::new()),
            Some(tags) => Some(read(tags)?),
        };
        tags.as_ref().map_or(Ok(()), validate::tags)?;
        Ok(Self { tags })
    }

    /// With nothing left out, for a replacement.
    fn or_default(self) -> Self {
        Self { tags: Some(self.tags.unwrap_or_default()) }
    }

    /// What sets it.
    pub(super) fn steps<R: Resource>(self, id: &str) -> Option<Step> {
        self.tags.map(|tags| Step::SetTags(R::KIND, id.to_owned(), tags))
    }
}

/// Reads a part of a body.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| Failure::unreadable(&error))
}
