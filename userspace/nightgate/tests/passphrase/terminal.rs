//! Commands at a terminal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
};

/// A person waits as long for the next word, in milliseconds.
const PATIENCE: u16 = 60_000;

/// A command whose standard input and standard error are a terminal.
pub(crate) struct Terminal {
    child: Child,
    person: File,
    /// All that the terminal has shown.
    shown: String,
}

impl Terminal {
    pub(crate) fn start(mut command: Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(Stdio::null()).stderr(end()).spawn().unwrap();
        Self { child, person: pty.master.into(), shown: String::new() }
    }

    /// Waits for a question and types an answer.
    pub(crate) fn answer(&mut self, question: &str, answer: &str) -> &mut Self {
        while !self.shown.ends_with(question) {
            assert!(self.read(), "{question:?} was not asked: {}", self.shown);
        }
        writeln!(self.person, "{answer}").unwrap();
        self
    }

    /// Waits for the end; says whether it was a success, and all that the terminal has shown.
    pub(crate) fn end(&mut self) -> (ExitStatus, &str) {
        while self.read() {}
        (self.child.wait().unwrap(), &self.shown)
    }

    /// Reads what is shown next; false if the terminal is closed.
    fn read(&mut self) -> bool {
        let mut waiting = [PollFd::new(self.person.as_fd(), PollFlags::POLLIN)];
        let count = poll(&mut waiting, PollTimeout::from(PATIENCE)).unwrap();
        assert!(count > 0, "nothing is shown any more: {}", self.shown);
        let mut bytes = [0; 256];
        // A terminal that nobody has open any more is an error (EIO).
        let length = self.person.read(&mut bytes).unwrap_or(0);
        self.shown.push_str(&String::from_utf8_lossy(&bytes[..length]));
        length > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
