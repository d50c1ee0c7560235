//! What identities have used, by the hour.

use nightgate_model::id::{IdentityId, ServiceId};
use rusqlite::{Connection, params};

use super::database;
use crate::{StoreError, Timestamp, Usage, UsageKey};

/// Most that one row counts, so that no sum of two overflows: SQLite refuses what is no 64-bit integer.
const MAX_COUNT: i64 = 1 << 61;

/// Milliseconds of an hour.
const HOUR: i64 = 60 * 60 * 1000;

/// Adds lines, all or none.
pub(super) fn add(
    connection: &Connection,
    lines: &[(UsageKey, Usage)],
    at: Timestamp,
) -> Result<(), StoreError> {
    let write = database("write usage");
    let transaction = connection.unchecked_transaction().map_err(&write)?;
    let sql = "INSERT INTO usage (hour, service, dialer, host, circuits, sent, received) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (hour, service, dialer, host) DO UPDATE SET \
        circuits = min(circuits + excluded.circuits, ?8), sent = min(sent + excluded.sent, ?8), \
        received = min(received + excluded.received, ?8)";
    for (key, usage) in lines {
        let [circuits, sent, received] = [usage.circuits, usage.sent, usage.received]
            .map(|count| i64::try_from(count).unwrap_or(MAX_COUNT).min(MAX_COUNT));
        let UsageKey { service, dialer, host } = key;
        let names = (service.as_str(), dialer.as_str(), host.as_str());
        let values =
            params![at.0 / HOUR, names.0, names.1, names.2, circuits, sent, received, MAX_COUNT];
        transaction.execute(sql, values).map_err(&write)?;
    }
    transaction.commit().map_err(&write)
}

/// The sums since the beginning of an hour.
pub(super) fn since(
    connection: &Connection,
    since: Timestamp,
) -> Result<Vec<(UsageKey, Usage)>, StoreError> {
    let read = database("read usage");
    // A sum of integers that overflows would be an error.
    let sql = "SELECT service, dialer, host, CAST(total(circuits) AS INTEGER), \
        CAST(total(sent) AS INTEGER), CAST(total(received) AS INTEGER) \
        FROM usage WHERE hour >= ?1 GROUP BY service, dialer, host";
    let mut statement = connection.prepare(sql).map_err(&read)?;
    let rows = statement
        .query_map([since.0 / HOUR], |row| {
            let count =
                |column| Ok::<u64, rusqlite::Error>(row.get::<_, i64>(column)?.unsigned_abs());
            let key = UsageKey {
                service: ServiceId::new(row.get::<_, String>(0)?),
                dialer: IdentityId::new(row.get::<_, String>(1)?),
                host: IdentityId::new(row.get::<_, String>(2)?),
            };
            Ok((key, Usage { circuits: count(3)?, sent: count(4)?, received: count(5)? }))
        })
        .map_err(&read)?;
    rows.map(|row| row.map_err(&read)).collect()
}

/// Removes what is older than a moment, and of the rest the oldest lines that are too many.
pub(super) fn trim(
    connection: &Connection,
    before: Timestamp,
    max_lines: u32,
) -> Result<usize, StoreError> {
    let sql = "DELETE FROM usage WHERE hour < ?1 OR hour <= \
        coalesce((SELECT hour FROM usage ORDER BY hour DESC LIMIT 1 OFFSET ?2), -1)";
    connection.execute(sql, params![before.0 / HOUR, max_lines]).map_err(database("shorten usage"))
}
