//! The nightgate command: composition root and command line of every role.

mod change;
mod check;
mod cli;
mod config_file;
mod controller;
mod cut_off;
mod enroll;
mod explain;
mod flows;
mod gateway;
mod identity_file;
mod learn;
mod lint;
mod management;
mod mfa;
mod observe;
mod output;
mod pki;
mod proxy;
mod quickstart;
mod router;
mod signals;
mod trace;
mod trace_route;
mod tunnel;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;
use nightgate_telemetry::init_logging;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody can be told if even standard error is closed; the exit code still says it.
            drop(writeln!(io::stderr(), "nightgate: {}", describe(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    init_logging(cli.log_level(), cli.log.format())?;
    tokio::runtime::Runtime::new()
        .context("start the asynchronous runtime")?
        .block_on(cli.command.run())
}

/// An error with its causes, each said once: many errors quote their cause already.
fn describe(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_quoted_already_is_not_repeated() {
        let cause = anyhow::anyhow!("no such file");
        let quoted = cause.context("open a.yaml: no such file; expected a file").context("start");

        assert_eq!(describe(&quoted), "start: open a.yaml: no such file; expected a file");
    }
}
