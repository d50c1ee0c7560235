//! `POST /network`: many changes at once, all or none. Nightgate's own.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use nightgate_model::{
    entity::{
        AuthPolicy, Ca, Config, ConfigType, EdgeRouter, EdgeRouterPolicy, Identity, Service,
        ServiceEdgeRouterPolicy, ServicePolicy,
    },
    id::Identifier as _,
    kind::EntityKind,
    network::{Action, Changed, Difference, ROLES, references},
    token::JwtAlgorithm,
};
use nightgate_store::{Change, Model, Step};
use serde_json::{Map, Value};

use super::{
    entities::{self, Common, New, read},
    resource::Resource,
    signing::Signing,
};
use crate::{
    clock,
    core::{Core, Memory},
    rest::{
        Failure, answer,
        api::{Access, Api},
        body::Body,
        caller::{Admin, Caller},
        schema,
    },
};

/// Longest body, in bytes: 100,000 entities of usual size.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// Does the same for the type of any kind.
macro_rules! with_resource {
    ($kind:expr, $bound:ident => $do:expr) => {
        match $kind {
            EntityKind::Identity => {
                type $bound = Identity;
                $do
            }
            EntityKind::EdgeRouter => {
                type $bound = EdgeRouter;
                $do
            }
            EntityKind::AuthPolicy => {
                type $bound = AuthPolicy;
                $do
            }
            EntityKind::Ca => {
                type $bound = Ca;
                $do
            }
            EntityKind::ConfigType => {
                type $bound = ConfigType;
                $do
            }
            EntityKind::Config => {
                type $bound = Config;
                $do
            }
            EntityKind::Service => {
                type $bound = Service;
                $do
            }
            EntityKind::ServicePolicy => {
                type $bound = ServicePolicy;
                $do
            }
            EntityKind::EdgeRouterPolicy => {
                type $bound = EdgeRouterPolicy;
                $do
            }
            EntityKind::ServiceEdgeRouterPolicy => {
                type $bound = ServiceEdgeRouterPolicy;
                $do
            }
        }
    };
}

pub(super) fn api() -> Api {
    Api::new(Access::Administrator)
        .post("/network", "Make many changes, all or none", change)
        .takes(schema::list(&schema::of::<Difference>()))
        .answers(schema::list(&schema::of::<Changed>()))
        .with_longest_body(MAX_BODY)
}

/// Makes the changes in their order and in one transaction. Each may refer by name to what those before
/// it have made. Answers with the ids of all entities, and the enrollment tokens of new ones.
async fn change(
    State(core): State<Arc<Core>>,
    Admin(caller): Admin,
    Signing(algorithm): Signing,
    Body(differences): Body<Vec<Difference>>,
) -> Result<Response, Failure> {
    let mut prepared = Vec::with_capacity(differences.len());
    for difference in differences {
        prepared.push(Prepared::new(&core, algorithm, difference).await?);
    }
    let author = caller.author();
    let count = prepared.len();
    let by = caller.identity.id.clone();
    let changed = core.edit(author, move |memory| plan(memory, &caller, prepared)).await?;
    tracing::info!(%by, count, "network changed");
    Ok(answer::ok(changed))
}

/// A change, with what takes time done already.
struct Prepared {
    difference: Difference,
    new: Option<New>,
}

impl Prepared {
    async fn new(
        core: &Core,
        algorithm: JwtAlgorithm,
        mut difference: Difference,
    ) -> Result<Self, Failure> {
        // A place where others can go on: signing thousands of tokens takes a while.
        tokio::task::yield_now().await;
        let new = match difference.action {
            Action::Create => {
                let fields = &mut difference.fields;
                Some(
                    with_resource!(difference.kind, R => New::prepare::<R>(core, algorithm, fields))
                        .map_err(|failure| in_context(failure, &difference))?,
                )
            }
            Action::Update | Action::Delete => None,
        };
        Ok(Self { difference, new })
    }
}

fn plan(
    memory: &Memory,
    caller: &Caller,
    prepared: Vec<Prepared>,
) -> Result<(Vec<Step>, Vec<Changed>), Failure> {
    let mut model = Model::clone(&memory.model);
    let (mut steps, mut changed) = (Vec::new(), Vec::with_capacity(prepared.len()));
    for Prepared { difference, new } in prepared {
        let planned = with_resource!(difference.kind, R => {
            plan_one::<R>(&model, caller, &difference, new)
        });
        let (made, one) = planned.map_err(|failure| in_context(failure, &difference))?;
        let change = Change::from(made);
        model.apply(&change, clock::timestamp());
        steps.extend(change.steps);
        changed.push(one);
    }
    Ok((steps, changed))
}

fn plan_one<R: Resource>(
    model: &Model,
    caller: &Caller,
    difference: &Difference,
    new: Option<New>,
) -> Result<(Vec<Step>, Changed), Failure> {
    let Difference { action, kind, name, fields } = difference;
    let changed = |id: &str, enrollment_jwt| Changed {
        kind: *kind,
        name: name.clone(),
        id: id.to_owned(),
        enrollment_jwt,
    };
    if let Some(mut new) = new {
        let fields = resolved(fields.clone(), model)?;
        let entity = R::new(R::Id::from_text(&new.id), read(fields.into())?);
        let changed = changed(&new.id, new.enrollment_jwt.take());
        return Ok((new.steps(entity, model)?, changed));
    }
    let found = R::table(model).values().find(|stored| stored.entity.name() == name);
    let stored = found.ok_or_else(|| Failure::not_found(&format!("the {kind} {name:?}")))?;
    let id = stored.entity.id().text().to_owned();
    let steps = match action {
        Action::Delete => entities::steps_to_delete(&stored.entity, caller, model)?,
        Action::Update | Action::Create => {
            let mut fields = resolved(fields.clone(), model)?;
            let common = Common::take::<R>(&mut fields)?;
            let merged = entities::merged(stored.entity.clone(), fields)?;
            let mut steps = entities::steps_to_update(merged, &stored.entity, caller, model)?;
            steps.extend(common.steps::<R>(&id));
            steps
        }
    };
    Ok((steps, changed(&id, None)))
}

/// Replaces names by ids: in roles, and where an entity refers to others.
fn resolved(mut fields: Map<String, Value>, model: &Model) -> Result<Map<String, Value>, Failure> {
    for (field, kind) in ROLES {
        let roles = fields.get_mut(field).and_then(Value::as_array_mut);
        for role in roles.into_iter().flatten() {
            if let Some(name) = role.as_str().and_then(|role| role.strip_prefix('@')) {
                *role = format!("@{}", id_of(kind, name, model)?).into();
            }
        }
    }
    for (_, kind, name) in references(&mut fields) {
        *name = id_of(kind, name.as_str().unwrap_or_default(), model)?.into();
    }
    Ok(fields)
}

/// The id of the entity with this name, or else with this id.
fn id_of(kind: EntityKind, name: &str, model: &Model) -> Result<String, Failure> {
    fn find<R: Resource>(name: &str, model: &Model) -> Option<String> {
        let mut all = R::table(model).values().map(|stored| &stored.entity);
        let named = all.find(|entity| entity.name() == name);
        let found = named.or_else(|| model.find::<R>(name).map(|stored| &stored.entity));
        found.map(|entity| entity.id().text().to_owned())
    }
    with_resource!(kind, R => find::<R>(name, model))
        .ok_or_else(|| Failure::invalid(format!("there is no {kind} {name:?}")))
}

fn in_context(failure: Failure, difference: &Difference) -> Failure {
    let Difference { action, kind, name, .. } = difference;
    failure.within(&format!("{} {kind} {name:?}", action.as_str()))
}
