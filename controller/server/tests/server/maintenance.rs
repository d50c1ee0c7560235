//! Backups: made from a running controller, checked, and put back in one step.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use nightgate_server::{Controller, MaintenanceError, Settings, backup, check, init, restore};

fn settings() -> Settings {
    Settings::new("localhost:443".parse().unwrap(), "[::1]:0".parse().unwrap())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// All that is wrong with a directory, as text.
fn faults(dir: &Path) -> String {
    let findings = check(dir).unwrap();
    findings.into_iter().flat_map(|finding| finding.faults).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_backup_of_a_running_controller_is_private_and_starts_elsewhere() {
    let place = tempfile::tempdir().unwrap();
    let (dir, copy, new) =
        (place.path().join("ctrl"), place.path().join("copy"), place.path().join("new"));
    init(&dir, &settings()).unwrap();
    let controller = Controller::start(&dir).await.unwrap();

    backup(&dir, &copy).unwrap();

    assert_eq!(faults(&dir), "");
    assert_eq!(faults(&copy), "");
    assert_eq!(mode(&copy), 0o700);
    for private in ["nightgate.db", "admin.json", "backup.json", "pki/server.key"] {
        assert_eq!(mode(&copy.join(private)), 0o600, "{private}");
    }
    let again = backup(&dir, &copy).unwrap_err();
    assert!(matches!(again, MaintenanceError::Exists(_)), "{again}");
    assert_eq!(restore(&copy, &new).unwrap().before, None);
    assert_eq!(
        fs::read(new.join("admin.json")).unwrap(),
        fs::read(dir.join("admin.json")).unwrap()
    );
    Controller::start(&new).await.unwrap().stop().await;
    controller.stop().await;
}

#[tokio::test]
async fn a_restore_keeps_what_was_there_and_refuses_a_running_controller() {
    let place = tempfile::tempdir().unwrap();
    let (dir, copy) = (place.path().join("ctrl"), place.path().join("copy"));
    init(&dir, &settings()).unwrap();
    backup(&dir, &copy).unwrap();
    let controller = Controller::start(&dir).await.unwrap();
    fs::write(dir.join("later"), "after the backup").unwrap();

    let refused = restore(&copy, &dir).unwrap_err();
    assert!(matches!(refused, MaintenanceError::InUse(_)), "{refused}");
    controller.stop().await;
    let before = restore(&copy, &dir).unwrap().before.unwrap();

    assert_eq!(fs::read_to_string(before.join("later")).unwrap(), "after the backup");
    assert!(!dir.join("later").exists() && !dir.join("backup.json").exists());
    assert_eq!(faults(&dir), "");
    assert_eq!(mode(&dir), 0o700);
    Controller::start(&dir).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_damaged_backup_is_named_and_nothing_is_restored() {
    let place = tempfile::tempdir().unwrap();
    let (dir, copy) = (place.path().join("ctrl"), place.path().join("copy"));
    init(&dir, &settings()).unwrap();
    for (file, damage) in [
        ("nightgate.db", &b"no database"[..]),
        ("pki/server.key", b"no key"),
        ("controller.json", b"{}"),
        ("admin.json", b"somebody else"),
    ] {
        backup(&dir, &copy).unwrap();
        fs::write(copy.join(file), damage).unwrap();
        let found = faults(&copy);
        assert!(found.contains(file), "{file}: {found}");
        let refused = restore(&copy, &dir).unwrap_err();
        assert!(matches!(refused, MaintenanceError::Damaged { .. }), "{refused}");
        fs::remove_dir_all(&copy).unwrap();
    }
    assert_eq!(faults(&dir), "");
    let nothing = restore(&dir, &place.path().join("new")).unwrap_err();
    assert!(matches!(nothing, MaintenanceError::NoBackup(_)), "{nothing}");
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("diary"), "private").unwrap();
    let foreign = backup(&copy, &place.path().join("new")).unwrap_err();
    assert!(matches!(foreign, MaintenanceError::NoController(_)), "{foreign}");
}

#[tokio::test]
async fn what_is_wrong_with_keys_and_certificates_is_said_at_once() {
    let place = tempfile::tempdir().unwrap();
    let (dir, other) = (place.path().join("ctrl"), place.path().join("other"));
    init(&dir, &settings()).unwrap();
    init(&other, &settings()).unwrap();
    let pki = dir.join("pki");
    fs::copy(other.join("pki/root.crt"), pki.join("root.crt")).unwrap();
    fs::remove_file(pki.join("root.key")).unwrap();
    fs::copy(other.join("pki/server.key"), pki.join("server.key")).unwrap();
    fs::set_permissions(pki.join("token.key"), fs::Permissions::from_mode(0o644)).unwrap();

    let found = faults(&dir);

    for expected in [
        "intermediate.crt is signed by no CA",
        "server.crt does not belong to",
        "token.key has mode 644",
    ] {
        assert!(found.contains(expected), "{expected}: {found}");
    }
    assert_eq!(found.lines().count(), 3, "{found}");
}
