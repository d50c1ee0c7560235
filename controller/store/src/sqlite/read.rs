//! Rows to entities.

use std::collections::BTreeMap;

use nightgate_model::{
    entity::Service,
    id::{ConfigId, ServiceId},
};
use rusqlite::Connection;

use super::{
    credentials, database, mfas, passwords, quarantines,
    record::{Columns, Record},
};
use crate::{Model, StoreError, Stored, Timestamp};

pub(super) fn model(connection: &Connection) -> Result<Model, StoreError> {
    let mut services = table(connection)?;
    shared_configs(connection, &mut services)?;
    Ok(Model {
        auth_policies: table(connection)?,
        cas: table(connection)?,
        identities: table(connection)?,
        config_types: table(connection)?,
        configs: table(connection)?,
        services,
        policies: table(connection)?,
        routers: table(connection)?,
        router_policies: table(connection)?,
        service_router_policies: table(connection)?,
        enrollments: credentials::enrollments(connection)?,
        certificates: credentials::certificates(connection)?,
        router_certificates: credentials::router_certificates(connection)?,
        quarantines: quarantines::all(connection)?,
        mfas: mfas::all(connection)?,
        usernames: passwords::usernames(connection)?,
    })
}

pub(super) fn index(connection: &Connection) -> Result<u64, StoreError> {
    connection
        .query_row("SELECT model_index FROM history", [], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
        .map_err(database("read model index"))
}

/// Adds the configs that services share, from the table that relates them.
fn shared_configs(
    connection: &Connection,
    services: &mut BTreeMap<ServiceId, Stored<Service>>,
) -> Result<(), StoreError> {
    let read = database("read configs of services");
    let mut statement =
        connection.prepare("SELECT service, config FROM service_configs").map_err(&read)?;
    let mut rows = statement.query([]).map_err(&read)?;
    while let Some(row) = rows.next().map_err(&read)? {
        let row = Columns(row);
        let service = ServiceId::new(row.get::<String>("service")?);
        if let Some(stored) = services.get_mut(&service) {
            stored.entity.configs.insert(ConfigId::new(row.get::<String>("config")?));
        }
    }
    Ok(())
}

fn table<R: Record>(connection: &Connection) -> Result<BTreeMap<R::Id, Stored<R>>, StoreError> {
    let read = database("read entities");
    let columns = R::COLUMNS.join(", ");
    let query =
        format!("SELECT id, name, created_at, updated_at, tags, {columns} FROM {}", R::TABLE);
    let mut statement = connection.prepare(&query).map_err(&read)?;
    let mut rows = statement.query([]).map_err(&read)?;
    let mut entities = BTreeMap::new();
    while let Some(row) = rows.next().map_err(&read)? {
        let row = Columns(row);
        let stored = Stored {
            entity: R::read(&row)?,
            created_at: Timestamp(row.get("created_at")?),
            updated_at: Timestamp(row.get("updated_at")?),
            tags: row.json("tags")?,
        };
        entities.insert(stored.entity.id().clone(), stored);
    }
    Ok(entities)
}
