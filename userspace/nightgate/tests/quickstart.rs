//! `nightgate quickstart` as a person starts it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// What must happen happens within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed when dropped.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// What it prints, up to a line that contains the text.
    fn read_until(&mut self, text: &str) -> String {
        let mut read = String::new();
        for line in BufReader::new(self.0.stdout.as_mut().unwrap()).lines() {
            let line = line.unwrap();
            read.push_str(&line);
            read.push('\n');
            if line.contains(text) {
                return read;
            }
        }
        panic!("{text:?} is not in {read}");
    }

    /// Ctrl-C.
    fn interrupt(&mut self) -> bool {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        self.0.wait().unwrap().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn nightgate(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightgate"));
    command.args(line.split_whitespace());
    command
}

fn quickstart(dir: &Path, ports: [u16; 2]) -> Command {
    let [controller, router] = ports;
    let mut command = nightgate("quickstart");
    command.arg(dir).args(["--controller-port", &controller.to_string()]);
    command.args(["--router-port", &router.to_string()]);
    command
}

fn free_ports() -> [u16; 2] {
    let sockets = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

fn error_of(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fetches the page through a proxy; none if the connection ends without an answer.
fn fetch(proxy: SocketAddr) -> Option<String> {
    let mut connection = TcpStream::connect(proxy).ok()?;
    connection.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn one_command_makes_an_overlay_and_the_next_start_goes_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("try it");
    let ports = free_ports();

    let first = quickstart(&dir, ports).arg("--once").output().unwrap();
    let shown = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(shown.contains("| Hello laptop."), "{shown}");
    let identity = fs::read(dir.join("laptop.json")).unwrap();

    // Without the options: the directory knows its ports.
    let mut command = nightgate("quickstart");
    command.arg(&dir);
    let mut second = Running::start(command);
    let shown = second.read_until("nightgate audit");
    assert!(shown.contains("| Hello laptop.") && shown.contains("Ctrl-C"), "{shown}");
    assert_eq!(fs::read(dir.join("laptop.json")).unwrap(), identity, "kept");
    what_it_says_to_try_works(&dir);
    assert!(second.interrupt());

    let changed = quickstart(&dir, free_ports()).arg("--once").output().unwrap();
    assert!(error_of(&changed).contains("--controller-port"), "{changed:?}");
    // What people took away stays away.
    let refused = nightgate("quickstart --once").arg(&dir).output().unwrap();
    let error = error_of(&refused);
    assert!(error.contains("laptop fetches http://web/"), "{error}");
}

/// The proxy brings the page, and no longer once the policy is gone.
fn what_it_says_to_try_works(dir: &Path) {
    let mut command = nightgate("proxy");
    command.arg(dir.join("laptop.json")).args(["web", "127.0.0.1:0"]);
    let mut proxy = Running::start(command);
    let at = proxy.read_until("web is at ");
    let at: SocketAddr = at.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(fetch(at).unwrap().contains("Hello laptop."));

    let mut delete = nightgate("policy delete web-dial");
    delete.env("NIGHTGATE_IDENTITY", dir.join("controller/admin.json"));
    assert!(delete.output().unwrap().status.success());
    wait_for("the page goes away", || fetch(at).is_none());
}

#[test]
fn a_directory_of_somebody_else_and_a_taken_port_are_refused_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("diary.txt"), "private").unwrap();
    let foreign = quickstart(dir.path(), free_ports()).arg("--once").output().unwrap();
    assert!(error_of(&foreign).contains("was not made by `nightgate quickstart`"), "{foreign:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let new = dir.path().join("new");
    let [free, _] = free_ports();
    for (ports, option) in [([port, free], "--controller-port"), ([free, port], "--router-port")] {
        let refused = quickstart(&new, ports).arg("--once").output().unwrap();
        let error = error_of(&refused);
        assert!(error.contains(&port.to_string()) && error.contains(option), "{error}");
        assert!(!new.exists());
    }
    let same = quickstart(&new, [free, free]).arg("--once").output().unwrap();
    assert!(error_of(&same).contains("cannot both have port"), "{same:?}");
}

#[test]
fn a_start_that_was_interrupted_is_completed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("qs");
    let ports = free_ports();
    // Killed at different moments of making everything.
    for milliseconds in [100, 300, 600] {
        let mut started = Running::start(quickstart(&dir, ports));
        thread::sleep(Duration::from_millis(milliseconds));
        started.0.kill().unwrap();
        started.0.wait().unwrap();
    }

    let completed = quickstart(&dir, ports).arg("--once").output().unwrap();

    assert!(completed.status.success(), "{}", String::from_utf8_lossy(&completed.stderr));
}
