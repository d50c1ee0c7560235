//! Passwords that people type, or keep in a file.

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, ensure};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// Where the password comes from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PasswordArgs {
    /// File whose first line is the password; without it, the first line of standard input is
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// Reads the password. A terminal shows nothing of it.
    pub(crate) fn read(&self) -> anyhow::Result<String> {
        let line = match &self.password_file {
            Some(file) => {
                let text = fs::read_to_string(file);
                let text = text.with_context(|| format!("read {}", file.display()))?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None => ask_hidden("Password: ")?,
        };
        ensure!(!line.is_empty(), "the password is empty");
        Ok(line)
    }
}

/// The next line of standard input. A terminal is asked for it, and shows nothing of it.
pub(crate) fn ask_hidden(question: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    let _hidden = if stdin.is_terminal() { Some(Hidden::begin(question)?) } else { None };
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("read it from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed, until dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin(question: &str) -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("read the terminal's settings")?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent).context("hide what is typed")?;
        // Standard error: standard output may be a file.
        drop(write!(io::stderr(), "{question}"));
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        match tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0) {
            // The terminal is gone if this fails.
            Ok(()) | Err(_) => {}
        }
        drop(writeln!(io::stderr()));
    }
}
