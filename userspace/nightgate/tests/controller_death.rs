//! The controller as a process of its own, killed while operators change its model.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::{
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

#[test]
fn what_was_acknowledged_survives_kill_9_with_its_audit_entry() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let init = nightgate(dir)
        .args(["controller", "init", "--address", &address, "--listen", &address, "--dir"])
        .arg(dir.join("ctrl"))
        .output()
        .unwrap();
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    let mut acknowledged = Vec::new();
    for round in 0..6_u64 {
        let controller = Controller::start(dir);
        ask_until_answered(dir, "service list");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let operators: Vec<_> = (0..2)
                .map(|operator| {
                    let stop = &stop;
                    scope.spawn(move || {
                        let names = (0..).map(|n| format!("s-{round}-{operator}-{n}"));
                        let going = names.take_while(|_| !stop.load(Ordering::Relaxed));
                        let created = going
                            .filter(|name| ask(dir, &format!("service create {name}")).is_some());
                        created.collect::<Vec<_>>()
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(150 + 137 * round));
            controller.kill();
            stop.store(true, Ordering::Relaxed);
            for operator in operators {
                acknowledged.extend(operator.join().unwrap());
            }
        });
    }
    let _controller = Controller::start(dir);
    let services = ask_until_answered(dir, "service list").to_string();
    let log = ask_until_answered(dir, "audit --limit 500 action=\"create\"").to_string();
    assert!(acknowledged.len() > 6, "{acknowledged:?}");
    for name in &acknowledged {
        let quoted = format!("\"{name}\"");
        assert!(services.contains(&quoted) && log.contains(&quoted), "{name} is lost");
    }
}
