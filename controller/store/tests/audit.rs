//! The bounds of the audit log.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::ops::ControlFlow;

use nightgate_model::kind::EntityKind;
use nightgate_store::{
    Action, AuditBounds, AuditRecord, Author, Change, SqliteStore, Store as _, Timestamp,
};

/// Milliseconds.
const DAY: i64 = 24 * 60 * 60 * 1000;

fn record(name: &str) -> AuditRecord {
    AuditRecord {
        author: Author::controller(),
        action: Action::Create,
        kind: EntityKind::Service,
        id: name.into(),
        name: name.into(),
        before: None,
        after: None,
    }
}

fn names(store: &SqliteStore) -> Vec<String> {
    let mut names = Vec::new();
    let mut collect = |entry: nightgate_store::AuditEntry| {
        names.push(entry.record.name);
        ControlFlow::Continue(())
    };
    store.audit(&mut collect).unwrap();
    names
}

#[test]
fn the_latest_entries_are_kept_within_the_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("db")).unwrap();
    for day in 1..=10 {
        let change = Change { steps: vec![], audit: vec![record(&format!("day-{day}"))] };
        store.apply(&change, Timestamp(day * DAY)).unwrap();
    }
    let now = Timestamp(10 * DAY);

    assert_eq!(store.trim_audit(AuditBounds::default(), now).unwrap(), 0);
    let by_age = AuditBounds { max_days: Some(4), ..AuditBounds::default() };
    assert_eq!(store.trim_audit(by_age, now).unwrap(), 5);
    assert_eq!(names(&store), ["day-10", "day-9", "day-8", "day-7", "day-6"]);
    let by_number = AuditBounds { max_entries: 2, max_days: None };
    assert_eq!(store.trim_audit(by_number, now).unwrap(), 3);
    assert_eq!(names(&store), ["day-10", "day-9"]);
    assert_eq!(store.trim_audit(by_age, Timestamp(100 * DAY)).unwrap(), 2);
    assert!(names(&store).is_empty());
    assert_eq!(store.trim_audit(by_age, now).unwrap(), 0);
}
