//! What identities have used, on disk.

use nightgate_model::id::{IdentityId, ServiceId};
use nightgate_store::{SqliteStore, Store as _, Timestamp, Usage, UsageKey};

/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;

fn key(dialer: &str) -> UsageKey {
    UsageKey {
        service: ServiceId::new("web"),
        dialer: IdentityId::new(dialer),
        host: IdentityId::new("bob"),
    }
}

fn usage(sent: u64) -> Usage {
    Usage { circuits: 1, sent, received: 2 }
}

#[test]
fn hours_add_up_and_old_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nightgate.db");
    let store = SqliteStore::open(&path).unwrap();
    store.add_usage(&[(key("alice"), usage(5))], Timestamp(HOUR)).unwrap();
    store.add_usage(&[(key("alice"), usage(6))], Timestamp(HOUR + 1)).unwrap();
    store
        .add_usage(&[(key("alice"), usage(7)), (key("eve"), usage(1))], Timestamp(5 * HOUR))
        .unwrap();
    drop(store);

    let store = SqliteStore::open(&path).unwrap();
    let all = store.usage(Timestamp(0)).unwrap();
    let alice = Usage { circuits: 3, sent: 18, received: 6 };
    assert_eq!(all, [(key("alice"), alice), (key("eve"), usage(1))]);
    assert_eq!(store.usage(Timestamp(5 * HOUR + 9)).unwrap()[0].1, usage(7));
    assert_eq!(store.usage(Timestamp(6 * HOUR)).unwrap(), []);

    assert_eq!(store.trim_usage(Timestamp(2 * HOUR), 100).unwrap(), 1);
    assert_eq!(store.usage(Timestamp(0)).unwrap()[0].1, usage(7));
    // Whole hours go, so that those that are left are complete.
    assert_eq!(store.trim_usage(Timestamp(0), 1).unwrap(), 2);
    assert_eq!(store.usage(Timestamp(0)).unwrap(), []);
}

#[test]
fn counts_that_are_too_large_stay_what_they_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("nightgate.db")).unwrap();
    for _ in 0..3 {
        store.add_usage(&[(key("eve"), usage(u64::MAX))], Timestamp(HOUR)).unwrap();
        store.add_usage(&[(key("eve"), usage(u64::MAX))], Timestamp(9 * HOUR)).unwrap();
    }
    let all = store.usage(Timestamp(0)).unwrap();
    assert_eq!((all[0].1.sent, all[0].1.circuits), (1 << 62, 6));
}
