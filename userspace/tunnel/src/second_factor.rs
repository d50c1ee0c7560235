//! Codes of the second factor for a program that runs: its API session is what they are for, so it has to send them.

use std::path::{Path, PathBuf};

use nightgate_gateway::admin::{AdminServer, Request};
use nightgate_sdk::Context;
use tracing::{info, warn};

/// The socket where a program that runs with this identity file takes codes: beside the file, for its owner alone.
pub fn socket_of(identity: &Path) -> PathBuf {
    let mut path = identity.as_os_str().to_owned();
    path.push(".mfa");
    path.into()
}

/// Takes codes of the second factor for this context, and shows them to the controller. Never returns, unless there can be no
/// socket beside this identity file.
pub async fn take_codes(context: Context, identity: Option<PathBuf>) {
    let Some(identity) = identity else { return };
    let path = socket_of(&identity);
    let mut admin = match AdminServer::start(&path) {
        Ok(admin) => admin,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            warn!(error, "no codes of a second factor can be taken");
            return;
        }
    };
    let say = async {
        loop {
            context.second_factor_becomes_due(true).await;
            let command =
                format!("nightgate mfa authenticate --identity {} CODE", identity.display());
            warn!(command, "the second factor is due");
            context.second_factor_becomes_due(false).await;
            info!("no second factor is due");
        }
    };
    let take = async {
        while let Some(query) = admin.next().await {
            let answer = if let Request::SecondFactor(code) = &query.request {
                let shown = context.show_second_factor(code).await;
                shown.map(|()| true.into()).map_err(|error| error.to_string())
            } else {
                Err("this socket takes codes of the second factor alone".into())
            };
            query.answer(answer);
        }
    };
    tokio::join!(say, take);
}
