//! `nightgate login` and `nightgate logout`

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use nightgate_pki::{FileAccess, write_atomically};
use nightgate_server::Address;
use serde::{Deserialize, Serialize};

use super::{client::ManagementClient, password::PasswordArgs};
use crate::output::print_text;

/// `nightgate login`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Management commands use the session until an hour after the last of them, unless they are told another
identity with --identity-file or NIGHTGATE_IDENTITY.

The first time, --ca names the controller's root certificate, DIR/pki/root.crt at the controller. Who may
log in: `nightgate identity set-password NAME`.")]
pub(crate) struct LoginArgs {
    /// The controller
    #[arg(value_name = "HOST:PORT")]
    controller: Address,
    /// Name to log in with
    #[arg(long, default_value = "admin")]
    username: String,
    /// File with the controller's root certificate, PEM; not needed again for the same controller
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Code of the second factor, if the identity has one
    #[arg(long, value_name = "CODE")]
    mfa_code: Option<String>,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    session: SessionArgs,
}

/// `nightgate logout`
#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    #[command(flatten)]
    session: SessionArgs,
}

/// Where the session is kept.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SessionArgs {
    /// File of the session that `nightgate login` began [default: nightgate/session.json in
    /// $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "FILE", env = "NIGHTGATE_SESSION", hide_env_values = true)]
    session_file: Option<PathBuf>,
}

/// A session that outlives the command.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct StoredSession {
    /// The controller's URL.
    pub(super) controller: String,
    /// Its root certificate, PEM.
    pub(super) ca: String,
    /// The session's token; none after logging out.
    pub(super) token: Option<String>,
}

impl LoginArgs {
    /// Logs in and keeps the session.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let controller = format!("https://{}", self.controller);
        let path = self.session.path()?;
        let known = StoredSession::load(&path)?.filter(|known| known.controller == controller);
        let ca = match (&self.ca, known) {
            (Some(file), _) => {
                fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?
            }
            (None, Some(known)) => known.ca,
            (None, None) => anyhow::bail!(
                "{controller} is new here: name its root certificate with --ca FILE (DIR/pki/root.crt \
                 at the controller)"
            ),
        };
        let mut session = StoredSession { controller, ca, token: None };
        let password = self.password.read()?;
        let code = self.mfa_code.as_deref();
        let token = ManagementClient::log_in(&session, &self.username, &password, code).await?;
        session.token = Some(token);
        session.save(&path)?;
        print_text(&format!("logged in to {} as {}", session.controller, self.username))
    }
}

impl LogoutArgs {
    /// Ends the session, at the controller and here.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let path = self.session.path()?;
        let session = StoredSession::load(&path)?.filter(|session| session.token.is_some());
        let session = session.context("nobody is logged in")?;
        StoredSession { token: None, ..session.clone() }.save(&path)?;
        ManagementClient::log_out(&session).await?;
        print_text(&format!("logged out of {}", session.controller))
    }
}

impl StoredSession {
    /// The session of the last login, if there was one.
    pub(super) fn load(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        let shown = || format!("{} is damaged; remove it and log in", path.display());
        serde_json::from_str(&text).map(Some).with_context(shown)
    }

    /// Keeps the session, readable by its owner only.
    pub(super) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let folder = path.parent().context("the session's file has a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        write_atomically(path, &serde_json::to_vec_pretty(self)?, FileAccess::Owner)
            .with_context(|| format!("write {}", path.display()))
    }
}

impl SessionArgs {
    /// The file that was named, or one in the user's folder for state (XDG base directories).
    pub(super) fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.session_file {
            return Ok(path.clone());
        }
        let set =
            |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state =
            set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
        let state = state.context("name --session-file: neither XDG_STATE_HOME nor HOME is set")?;
        ensure!(state.is_absolute(), "{} is no absolute path", state.display());
        Ok(state.join("nightgate/session.json"))
    }
}
