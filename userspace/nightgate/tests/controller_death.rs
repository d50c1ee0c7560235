//! The controller as a process of its own, killed while operators change its model.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// What must happen happens within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A controller process; killed when dropped.
struct Controller(Child);

impl Controller {
    fn start(dir: &Path) -> Self {
        let mut command = nightgate(dir);
        command.args(["controller", "run", "--dir"]).arg(dir.join("ctrl"));
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn nightgate(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightgate"));
    command.env("NIGHTGATE_IDENTITY", dir.join("ctrl/admin.json"));
    command
}

/// Runs a management command; its JSON if it succeeded.
fn ask(dir: &Path, line: &str) -> Option<Value> {
    let output = nightgate(dir).args(line.split_whitespace()).arg("--json").output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// Asks until the controller answers.
fn ask_until_answered(dir: &Path, line: &str) -> Value {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask(dir, line) {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{line}: no answer");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Creates services until told to stop; gives the names of those that were acknowledged.
fn create_services(dir: &Path, prefix: &str, stop: &AtomicBool) -> Vec<String> {
    let names = (0..).map(|number| format!("{prefix}-{number}"));
    let going = names.take_while(|_| !stop.load(Ordering::Relaxed));
    going.filter(|name| ask(dir, &format!("service create {name}")).is_some()).collect()
}

/// Makes a controller directory in `dir`.
fn init(dir: &Path) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let init = nightgate(dir)
        .args(["controller", "init", "--address", &address, "--listen", &address, "--dir"])
        .arg(dir.join("ctrl"))
        .output()
        .unwrap();
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
}

/// Starts a controller, lets two operators write, and kills it this long after the first were
/// acknowledged; gives all that were.
fn write_and_kill(dir: &Path, round: u64, later: Duration) -> Vec<String> {
    let controller = Controller::start(dir);
    ask_until_answered(dir, "service list name=\"none\"");
    let stop = AtomicBool::new(false);
    let filter = format!("service list name=\"s-{round}-0-0\"");
    thread::scope(|scope| {
        let operators: Vec<_> = (0..2)
            .map(|operator| {
                let stop = &stop;
                scope.spawn(move || create_services(dir, &format!("s-{round}-{operator}"), stop))
            })
            .collect();
        let began = Instant::now();
        while ask_until_answered(dir, &filter).as_array().is_none_or(Vec::is_empty) {
            assert!(began.elapsed() < PATIENCE, "nothing was written");
        }
        thread::sleep(later);
        controller.kill();
        stop.store(true, Ordering::Relaxed);
        operators.into_iter().flat_map(|operator| operator.join().unwrap()).collect()
    })
}

/// Whether `nightgate controller check` finds nothing wrong.
fn check(dir: &Path, what: &Path) {
    let output = nightgate(dir).args(["controller", "check", "--dir"]).arg(what).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The names of all services, from the database by the API.
fn all_services(dir: &Path) -> BTreeSet<String> {
    let services = ask_until_answered(dir, "service list");
    services.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

/// How often the controller is killed: many times at night, a few times otherwise.
fn rounds() -> u64 {
    std::env::var("NIGHTGATE_KILL_ROUNDS").map_or(6, |rounds| rounds.parse().unwrap())
}

#[test]
fn what_was_acknowledged_survives_kill_9_with_its_audit_entry() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    init(dir);
    let mut acknowledged = BTreeSet::new();
    for round in 0..rounds() {
        // Scattered over the commits of the operators.
        let later = Duration::from_millis(137 * round % 191);
        acknowledged.extend(write_and_kill(dir, round, later));
        check(dir, &dir.join("ctrl"));
    }
    let _controller = Controller::start(dir);
    let services = all_services(dir);
    let log = ask_until_answered(dir, "audit --limit 500 action=\"create\"").to_string();
    assert!(acknowledged.len() as u64 >= rounds(), "{acknowledged:?}");
    let lost: Vec<_> = acknowledged.difference(&services).collect();
    assert!(lost.is_empty(), "lost of {}: {lost:?}", acknowledged.len());
    // The log shows the last 500 entries.
    for name in acknowledged.iter().filter(|_| acknowledged.len() < 400) {
        assert!(log.contains(&format!("\"{name}\"")), "{name} has no entry");
    }
}

#[test]
fn a_backup_under_writes_is_whole_and_a_killed_restore_changes_nothing_or_everything() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    init(dir);
    let before: BTreeSet<String> =
        write_and_kill(dir, 0, Duration::from_millis(100)).into_iter().collect();
    let copy = dir.join("copy");
    let controller = Controller::start(dir);
    ask_until_answered(dir, "service list name=\"none\"");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| create_services(dir, "late", &stop));
        thread::sleep(Duration::from_millis(300));
        let output = nightgate(dir)
            .args(["controller", "backup", "--dir"])
            .args([&dir.join("ctrl"), &copy])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ask_until_answered(dir, "service create mark");
        stop.store(true, Ordering::Relaxed);
    });
    let restore = || {
        let mut command = nightgate(dir);
        command.args(["controller", "restore", "--dir"]).args([&dir.join("ctrl"), &copy]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let refused = restore().output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("in use"), "{error}");
    controller.kill();

    for milliseconds in [0, 5, 20, 40, 80] {
        let mut restoring = restore().spawn().unwrap();
        thread::sleep(Duration::from_millis(milliseconds));
        // It may be done already.
        drop(restoring.kill());
        restoring.wait().unwrap();
        check(dir, &dir.join("ctrl"));
    }
    assert!(restore().status().unwrap().success());

    let _controller = Controller::start(dir);
    let services = all_services(dir);
    assert!(before.is_subset(&services), "{:?}", before.difference(&services));
    assert!(!services.contains("mark"), "created after the backup");
}
