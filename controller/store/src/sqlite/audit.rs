//! The audit log.

use std::ops::ControlFlow;

use rusqlite::{Connection, params};
use serde_json::Value;

use super::{
    database,
    record::{Columns, json, parse},
};
use crate::{AuditBounds, AuditEntry, AuditRecord, Author, StoreError, Timestamp};

/// Milliseconds of a day.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// Adds entries.
pub(super) fn append(
    connection: &Connection,
    records: &[AuditRecord],
    at: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO audit \
        (at, author_id, author_name, action, kind, entity, name, before, after) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    for record in records {
        let optional =
            |value: &Option<Value>| value.as_ref().map(|v| json("audit entry", v)).transpose();
        let values = params![
            at.0,
            record.author.id,
            record.author.name,
            json("audit action", &record.action)?,
            json("audit kind", &record.kind)?,
            record.id,
            record.name,
            optional(&record.before)?,
            optional(&record.after)?,
        ];
        connection.execute(sql, values).map_err(database("add audit entry"))?;
    }
    Ok(())
}

/// Shows the entries, the latest first.
pub(super) fn read(
    connection: &Connection,
    visit: &mut dyn FnMut(AuditEntry) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let read = database("read audit log");
    let sql = "SELECT number, at, author_id, author_name, action, kind, entity, name, before, \
        after FROM audit ORDER BY number DESC";
    let mut statement = connection.prepare(sql).map_err(&read)?;
    let mut rows = statement.query([]).map_err(&read)?;
    while let Some(row) = rows.next().map_err(&read)? {
        if visit(entry(&Columns(row))?).is_break() {
            break;
        }
    }
    Ok(())
}

/// Removes the oldest entries that the bounds do not admit; entries are in the order of their time.
pub(super) fn trim(
    connection: &Connection,
    bounds: AuditBounds,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let oldest = bounds.max_days.map_or(i64::MIN, |days| now.0 - i64::from(days) * DAY);
    let sql = "DELETE FROM audit WHERE number <= (SELECT max(number) FROM audit) - ?1 \
        OR number < coalesce((SELECT min(number) FROM audit WHERE at >= ?2), 0x7fffffffffffffff)";
    connection
        .execute(sql, params![bounds.max_entries, oldest])
        .map_err(database("shorten audit log"))
}

fn entry(row: &Columns<'_>) -> Result<AuditEntry, StoreError> {
    let text = |column| row.get::<String>(column);
    let optional = |column| {
        let text = row.get::<Option<String>>(column)?;
        text.map(|text| parse("audit entry", &text)).transpose()
    };
    let record = AuditRecord {
        author: Author { id: text("author_id")?, name: text("author_name")? },
        action: parse("audit action", &text("action")?)?,
        kind: parse("audit kind", &text("kind")?)?,
        id: text("entity")?,
        name: text("name")?,
        before: optional("before")?,
        after: optional("after")?,
    };
    Ok(AuditEntry { number: row.get("number")?, at: Timestamp(row.get("at")?), record })
}
