//! The controller's directory: made once, served by one process.

use std::{fs, os::unix::fs::PermissionsExt as _};

use nightgate_server::{Controller, InitError, Initialized, Settings, StartError, init};

fn settings() -> Settings {
    Settings::new("localhost:443".parse().unwrap(), "[::1]:0".parse().unwrap())
}

#[tokio::test]
async fn a_second_init_keeps_the_administrator_and_takes_the_new_settings() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("new");
    let Initialized::New { admin } = init(&dir, &settings()).unwrap() else { panic!("not new") };
    assert_eq!(fs::metadata(&admin).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let before = fs::read(&admin).unwrap();
    let moved = Settings::new("other.example:443".parse().unwrap(), settings().listen);
    assert_eq!(init(&dir, &moved).unwrap(), Initialized::Existing);
    assert_eq!(fs::read(&admin).unwrap(), before);
    assert_eq!(Settings::load(&dir).unwrap(), Some(moved));
}

#[tokio::test]
async fn a_directory_is_served_by_one_process_and_free_again_after_it() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &settings()).unwrap();
    let controller = Controller::start(dir.path()).await.unwrap();
    assert!(matches!(Controller::start(dir.path()).await, Err(StartError::InUse(_))));
    assert!(matches!(init(dir.path(), &settings()), Err(InitError::Lock(_))));
    controller.stop().await;
    Controller::start(dir.path()).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_directory_that_was_never_initialized_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = Controller::start(dir.path()).await.err().unwrap();
    assert!(error.to_string().contains("nightgate controller init --dir"), "{error}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    init(dir.path(), &Settings::new("localhost:443".parse().unwrap(), listen)).unwrap();
    let error = Controller::start(dir.path()).await.err().unwrap();
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
}
