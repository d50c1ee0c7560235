//! `nightgate quickstart`: a whole overlay in one process and one directory.

mod folder;
mod overlay;

use std::path::PathBuf;

use self::{
    folder::{Folder, Ports},
    overlay::Overlay,
};
use crate::{output::print_text, signals::StopSignals};

/// Name of the service that is hosted.
const SERVICE: &str = "web";

/// Name of the identity that hosts it.
const HOST: &str = "web-server";

/// Name of the identity that dials it.
const CLIENT: &str = "laptop";

/// Name of the router.
const ROUTER: &str = "router";

/// `nightgate quickstart`
#[derive(Debug, clap::Args)]
pub(crate) struct QuickstartArgs {
    /// Directory for everything that is kept; made if it is missing, continued if it is there
    #[arg(default_value = "nightgate-quickstart")]
    dir: PathBuf,
    /// Port of the controller on 127.0.0.1 [default: 1280]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    controller_port: Option<u16>,
    /// Port of the router on 127.0.0.1 [default: 3022]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    router_port: Option<u16>,
    /// End after the page has been fetched once, instead of running until Ctrl-C
    #[arg(long)]
    once: bool,
}

impl QuickstartArgs {
    /// Runs the overlay until a signal asks it to stop.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut signals = StopSignals::new()?;
        let ports = Ports { controller: self.controller_port, router: self.router_port };
        let mut folder = Folder::open(&self.dir, ports)?;
        let was_complete = folder.state.is_complete;
        let started = tokio::select! {
            started = Overlay::start(&mut folder) => started?,
            () = signals.wait() => return Ok(()),
        };
        let shown = async {
            match started.fetch().await {
                Ok(page) => print_text(&greeting(&folder, &page, self.once)),
                // People may have taken the right away since, which is what they were shown.
                Err(error) if was_complete && !self.once => print_text(&refusal(&folder, &error)),
                Err(error) => Err(error.context(format!("{CLIENT} fetches http://{SERVICE}/"))),
            }
        };
        let outcome = tokio::select! {
            outcome = shown => outcome,
            () = signals.wait() => {
                started.stop().await;
                return Ok(());
            }
        };
        if outcome.is_ok() && !self.once {
            signals.wait().await;
        }
        started.stop().await;
        outcome
    }
}

fn greeting(folder: &Folder, page: &str, once: bool) -> String {
    let page: String = page.lines().map(|line| format!("  | {line}\n")).collect();
    let fetched = format!(
        "A controller ({}), a router ({}) and two enrolled identities, {HOST} and {CLIENT}, are at work.\n\
         {CLIENT} has fetched http://{SERVICE}/ from {HOST} through the overlay:\n{page}",
        folder.state.controller(),
        folder.state.router(),
    );
    if once { fetched } else { format!("{fetched}\n{}", next_steps(folder)) }
}

fn refusal(folder: &Folder, error: &anyhow::Error) -> String {
    let reason = crate::describe(error);
    let admin = folder.file("controller/admin.json");
    format!(
        "Controller, router and {HOST} run again, but {CLIENT} does not get http://{SERVICE}/:\n  {reason}\n\
         What stands in the way:\n  \
         nightgate explain dial {CLIENT} {SERVICE} --identity-file {}\n\n{}",
        admin.display(),
        next_steps(folder)
    )
}

fn next_steps(folder: &Folder) -> String {
    let admin = folder.file("controller/admin.json");
    let client = folder.file(&format!("{CLIENT}.json"));
    let (admin, client) = (admin.display(), client.display());
    format!(
        "It runs until Ctrl-C, and goes on with the same directory at the next start. In another terminal:\n  \
         export NIGHTGATE_IDENTITY={admin}\n  \
         nightgate proxy {client} {SERVICE} 127.0.0.1:8080\n      \
         the page for your browser, at http://127.0.0.1:8080/\n  \
         nightgate explain dial {CLIENT} {SERVICE}\n      \
         which policy lets {CLIENT} in\n  \
         nightgate policy delete {SERVICE}-dial\n      \
         and it is out, at once; open connections too\n  \
         nightgate policy create {SERVICE}-dial dial --identity '#staff' --service @{SERVICE}\n      \
         and in again\n  \
         nightgate identity create phone --attribute staff --jwt-out phone.jwt\n  \
         nightgate enroll phone.jwt --out phone.json\n      \
         another one who may: `nightgate proxy phone.json {SERVICE} 127.0.0.1:8081`\n  \
         nightgate audit\n      \
         who changed what"
    )
}
