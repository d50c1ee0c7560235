//! Keys in identity files, encrypted with a passphrase.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod terminal;

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use terminal::Terminal;

const NIGHTGATE: &str = env!("CARGO_BIN_EXE_nightgate");
const ENCRYPTED: &str = "BEGIN ENCRYPTED PRIVATE KEY";

/// A command line with this passphrase in its environment.
fn command(folder: &Path, passphrase: Option<&str>, line: &str) -> Command {
    let mut command = Command::new(NIGHTGATE);
    command.args(line.split(' ')).current_dir(folder).stdin(Stdio::null());
    command.env_remove("NIGHTGATE_IDENTITY").env_remove("NIGHTGATE_KEY_PASSPHRASE");
    if let Some(passphrase) = passphrase {
        command.env("NIGHTGATE_KEY_PASSPHRASE", passphrase);
    }
    command
}

fn run(folder: &Path, passphrase: Option<&str>, line: &str) -> Output {
    command(folder, passphrase, line).output().unwrap()
}

/// Runs a command that has to succeed.
fn done(folder: &Path, passphrase: Option<&str>, line: &str) {
    let output = run(folder, passphrase, line);
    assert!(output.status.success(), "{line}: {output:?}");
}

/// Makes a controller directory; its administrator's key is encrypted if there is a passphrase.
fn init(folder: &Path, passphrase: Option<&str>) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let init = format!("controller init --dir ctrl --address {address} --listen {address}");
    done(folder, passphrase, &init);
}

/// What is said to who uses the administrator's file with this passphrase. No controller runs: who has the key
/// gets as far as that.
fn said(folder: &Path, passphrase: Option<&str>) -> String {
    let refused = run(folder, passphrase, "identity list --identity-file ctrl/admin.json");
    assert!(!refused.status.success());
    String::from_utf8_lossy(&refused.stderr).into_owned()
}

/// Whether this passphrase opens the administrator's key.
fn opens(folder: &Path, passphrase: Option<&str>) -> bool {
    said(folder, passphrase).contains("cannot be reached")
}

fn content(folder: &Path, file: &str) -> String {
    let path = folder.join(file);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::read_to_string(path).unwrap()
}

#[test]
fn the_first_administrators_key_is_encrypted_like_the_controllers_and_opened_by_the_same() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), Some("correct horse"));
    assert!(content(folder.path(), "ctrl/admin.json").contains(ENCRYPTED));
    for (passphrase, expected) in [
        (None, "NIGHTGATE_KEY_PASSPHRASE_FILE"),
        (Some("battery staple"), "another passphrase"),
        (Some("correct horse"), "cannot be reached"),
    ] {
        let text = said(folder.path(), passphrase);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_passphrase_is_set_changed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    init(folder, None);
    let plain = content(folder, "ctrl/admin.json");
    let change = "identity passphrase ctrl/admin.json";

    // At a terminal, the new one twice; none at first.
    let mut terminal = Terminal::start(command(folder, None, change));
    terminal.answer("New passphrase: ", "one").answer("Once more: ", "two");
    let (status, shown) = terminal.end();
    assert!(!status.success() && shown.contains("differ"), "{shown}");
    assert_eq!(content(folder, "ctrl/admin.json"), plain);
    let mut terminal = Terminal::start(command(folder, None, change));
    let (status, shown) =
        terminal.answer("New passphrase: ", "one").answer("Once more: ", "one").end();
    assert!(status.success() && !shown.contains("one\r"), "{shown}");
    assert!(opens(folder, Some("one")) && content(folder, "ctrl/admin.json").contains(ENCRYPTED));

    // A wrong one changes nothing, wherever it comes from.
    let before = content(folder, "ctrl/admin.json");
    let mut terminal = Terminal::start(command(folder, None, change));
    let (status, shown) = terminal.answer("Passphrase of ctrl/admin.json: ", "wrong").end();
    assert!(!status.success() && shown.contains("another passphrase"), "{shown}");
    assert!(!run(folder, Some("wrong"), change).status.success());
    assert!(!run(folder, None, change).status.success(), "nobody was there to ask");
    assert_eq!(content(folder, "ctrl/admin.json"), before);

    // By a script: from standard input, or from the environment and a file.
    let mut script = command(folder, None, change);
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    script.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    assert!(script.wait().unwrap().success());
    assert!(opens(folder, Some("two")) && !opens(folder, Some("one")));
    fs::write(folder.join("new.txt"), "three\n").unwrap();
    done(folder, Some("two"), &format!("{change} --new-passphrase-file new.txt"));
    assert!(opens(folder, Some("three")) && !opens(folder, Some("two")));

    done(folder, Some("three"), &format!("{change} --remove"));
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parsed(&content(folder, "ctrl/admin.json")), parsed(&plain));
    done(folder, None, &format!("{change} --remove"));
    let left: Vec<_> = fs::read_dir(folder.join("ctrl"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".new"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_killed_change_leaves_the_former_passphrase_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    init(folder, Some("p0"));
    let mut current = 0;
    for later in [10, 30, 60, 90, 120, 160, 200, 300] {
        fs::write(folder.join("new.txt"), format!("p{}", current + 1)).unwrap();
        let present = format!("p{current}");
        let line = "identity passphrase ctrl/admin.json --new-passphrase-file new.txt";
        let mut changing =
            command(folder, Some(&present), line).stdout(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(later));
        // It may be done already.
        drop(changing.kill());
        changing.wait().unwrap();
        if !opens(folder, Some(&present)) {
            current += 1;
            assert!(opens(folder, Some(&format!("p{current}"))), "neither opens it");
        }
    }
}

/// A controller process; killed when dropped.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts the controller and waits until it answers.
fn start(folder: &Path) -> Controller {
    let controller = Controller(
        command(folder, None, "controller run --dir ctrl").stderr(Stdio::null()).spawn().unwrap(),
    );
    let began = Instant::now();
    while !run(folder, None, "identity list --identity-file ctrl/admin.json").status.success() {
        assert!(began.elapsed() < Duration::from_secs(60), "the controller does not answer");
        thread::sleep(Duration::from_millis(50));
    }
    controller
}

#[test]
fn enroll_asks_for_a_passphrase_twice_and_commands_ask_for_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    init(folder, None);
    let _controller = start(folder);
    let create = "identity create boss --admin --jwt-out boss.jwt --identity-file ctrl/admin.json";
    done(folder, None, create);
    let enroll =
        || Terminal::start(command(folder, None, "enroll boss.jwt --out boss.json --encrypt"));

    let mut terminal = enroll();
    terminal.answer("New passphrase: ", "correct horse").answer("Once more: ", "battery staple");
    let (status, shown) = terminal.end();
    assert!(!status.success() && shown.contains("differ"), "{shown}");
    assert!(!folder.join("boss.json").exists());
    // The token was not used.
    let mut terminal = enroll();
    terminal.answer("New passphrase: ", "correct horse").answer("Once more: ", "correct horse");
    let (status, shown) = terminal.end();
    assert!(status.success(), "{shown}");
    assert!(!shown.contains("horse"), "what is typed is not shown: {shown}");
    assert!(content(folder, "boss.json").contains(ENCRYPTED));

    let list = || Terminal::start(command(folder, None, "identity list --identity-file boss.json"));
    let question = "Passphrase of boss.json: ";
    let mut terminal = list();
    let (status, shown) = terminal.answer(question, "battery staple").end();
    assert!(!status.success() && shown.contains("another passphrase"), "{shown}");
    let mut terminal = list();
    let (status, shown) = terminal.answer(question, "correct horse").end();
    assert!(status.success() && !shown.contains("horse"), "{shown}");
}
