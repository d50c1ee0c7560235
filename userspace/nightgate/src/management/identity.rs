//! `nightgate identity ...`

use nightgate_model::{
    api::{Disable, IdentityEnrollment, SetPassword},
    auth,
    entity::Identity,
    id::{AuthPolicyId, CaId},
    kind::EntityKind,
    spec::IdentitySpec,
};
use serde::Serialize;

use super::{
    attribute::AttributeList,
    client::Named,
    entity::{EntityCommand, Managed, NameArgs, Names, Shown},
    joined,
    password::PasswordArgs,
    token::TokenArgs,
    yes_or_no,
};
use crate::{identity_file::PassphraseArgs, output::print_text};

/// `nightgate identity ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum IdentityCommand {
    #[command(flatten)]
    Entity(EntityCommand<Identity>),
    /// Disable an identity: its sessions and circuits end at once
    Disable(DisableArgs),
    /// Enable an identity again
    Enable(NameArgs),
    /// Let an identity log in with a password, beside its certificate; for administrators
    SetPassword(SetPasswordArgs),
    /// Take the password of an identity away; sessions that began with it end
    RemovePassword(NameArgs),
    /// Take the second factor of an identity away: for whoever has lost the app and the recovery codes
    RemoveMfa(NameArgs),
    /// Ask all sessions of an identity for its second factor again: its circuits end until a code is given
    RequireMfa(NameArgs),
    /// Set, change or remove the passphrase of an identity file; asks no controller
    ///
    /// The present passphrase comes from where programs take it (NIGHTGATE_KEY_PASSPHRASE_FILE, the systemd credential
    /// nightgate-key-passphrase, NIGHTGATE_KEY_PASSPHRASE), else it is asked for. The file is replaced in one step,
    /// readable by its owner alone. Stop programs that use it before: one that runs writes the file with the
    /// passphrase it was started with when it renews its certificate. They need the new one when they start.
    Passphrase(PassphraseArgs),
}

/// `nightgate identity create`
#[derive(Debug, clap::Args)]
pub(crate) struct CreateIdentity {
    /// Unique name
    name: String,
    /// Attribute that policies select by #attribute; may be repeated
    #[arg(long = "attribute", value_name = "ATTRIBUTE")]
    attributes: Vec<String>,
    /// May use the management commands
    #[arg(long)]
    admin: bool,
    /// How it may authenticate: name or id of an auth policy
    #[arg(long, value_name = "POLICY", default_value = auth::DEFAULT)]
    auth_policy: String,
    /// It enrolls with a certificate of this registered CA, by name or id
    #[arg(long = "ca", value_name = "CA", conflicts_with = "username")]
    ca: Option<String>,
    /// It enrolls by setting a password, to log in with by this name
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// How the enrollment token is signed: RS256 for OpenZiti clients of 2022, which take no other
    #[arg(long, value_name = "ALGORITHM", default_value = "ES256", value_parser = ["ES256", "RS256"])]
    jwt_algorithm: String,
    #[command(flatten)]
    token: TokenArgs,
}

/// `nightgate identity update`
#[derive(Debug, Serialize, clap::Args)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateIdentity {
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// All its attributes from now on, separated by commas; '' for none
    #[arg(long, value_name = "A,B")]
    #[serde(rename = "roleAttributes")]
    attributes: Option<AttributeList>,
    /// How it may authenticate: name or id of an auth policy, `default` for that of those that have no other
    #[arg(long = "auth-policy", value_name = "POLICY")]
    auth_policy_id: Option<String>,
    /// May use the management commands
    #[arg(long = "admin", value_name = "BOOL")]
    is_admin: Option<bool>,
}

/// `nightgate identity disable`
#[derive(Debug, clap::Args)]
pub(crate) struct DisableArgs {
    #[command(flatten)]
    which: NameArgs,
    /// Enable it again after this many minutes
    #[arg(long = "for", value_name = "MINUTES", default_value_t = 0, hide_default_value = true)]
    minutes: u32,
}

/// `nightgate identity set-password`
#[derive(Debug, clap::Args)]
pub(crate) struct SetPasswordArgs {
    #[command(flatten)]
    which: NameArgs,
    /// Name to log in with [default: the identity's name]
    #[arg(long)]
    username: Option<String>,
    #[command(flatten)]
    password: PasswordArgs,
}

impl IdentityCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Entity(command) => command.run().await,
            Self::Disable(args) => {
                let wanted = Disable { duration_minutes: args.minutes };
                let done = if args.minutes == 0 {
                    "disabled".to_owned()
                } else {
                    format!("disabled for {} min", args.minutes)
                };
                act(&args.which, "disable", &wanted, &done).await
            }
            Self::Enable(args) => act(&args, "enable", &(), "enabled").await,
            Self::SetPassword(args) => {
                let password = args.password.read()?;
                let wanted = SetPassword { username: args.username, password };
                change_password(&args.which, Some(&wanted), "has a new password").await
            }
            Self::RemovePassword(args) => change_password(&args, None, "has no password").await,
            Self::RemoveMfa(args) => remove_mfa(&args).await,
            Self::RequireMfa(args) => {
                act(&args, "require-mfa", &(), "is asked for its second factor").await
            }
            Self::Passphrase(args) => args.run(),
        }
    }
}

impl Managed for Identity {
    type Create = CreateIdentity;
    type Update = UpdateIdentity;
    const COLUMNS: &'static [&'static str] = &["attributes", "admin", "state", "session", "mfa"];
    const ENROLL: &'static str = "nightgate enroll";

    fn wanted(args: CreateIdentity) -> anyhow::Result<IdentitySpec> {
        Ok(IdentitySpec {
            name: args.name,
            is_admin: args.admin,
            disabled: false,
            role_attributes: args.attributes.into_iter().collect(),
            auth_policy_id: AuthPolicyId::new(args.auth_policy),
        })
    }

    fn enrollment(args: &CreateIdentity) -> Option<IdentityEnrollment> {
        let (ottca, updb) = (args.ca.as_deref().map(CaId::new), args.username.clone());
        let is_asked = ottca.is_some() || updb.is_some();
        is_asked.then_some(IdentityEnrollment { ott: false, ottca, updb })
    }

    fn token(args: &CreateIdentity) -> Option<&TokenArgs> {
        Some(&args.token)
    }

    fn options(args: &CreateIdentity) -> Vec<(&'static str, String)> {
        vec![("jwtAlgorithm", args.jwt_algorithm.clone())]
    }

    fn cells(shown: &Shown<Self>, _names: &Names) -> Vec<String> {
        let identity = &shown.entity;
        vec![
            joined(&identity.role_attributes),
            yes_or_no(identity.is_admin).into(),
            state(identity).into(),
            yes_or_no(shown.more["hasApiSession"] == true).into(),
            yes_or_no(shown.more["isMfaEnabled"] == true).into(),
        ]
    }
}

async fn act(
    args: &NameArgs,
    action: &str,
    body: &impl Serialize,
    done: &str,
) -> anyhow::Result<()> {
    let client = args.management.connect().await?;
    let found: Named = client.find(EntityKind::Identity, &args.name).await?;
    client.act(EntityKind::Identity, &found.id, action, body).await?;
    print_text(&format!("{} {done}", found.name))
}

async fn remove_mfa(args: &NameArgs) -> anyhow::Result<()> {
    let client = args.management.connect().await?;
    let found: Named = client.find(EntityKind::Identity, &args.name).await?;
    client.delete_at(&format!("identities/{}/mfa", found.id)).await?;
    print_text(&format!("{} has no second factor", found.name))
}

async fn change_password(
    args: &NameArgs,
    wanted: Option<&SetPassword>,
    done: &str,
) -> anyhow::Result<()> {
    let client = args.management.connect().await?;
    let found: Named = client.find(EntityKind::Identity, &args.name).await?;
    client.set_password(&found.id, wanted).await?;
    print_text(&format!("{} {done}", found.name))
}

fn state(identity: &Identity) -> &'static str {
    match (identity.disabled, &identity.fingerprint) {
        (true, _) => "disabled",
        (false, None) => "not enrolled",
        (false, Some(_)) => "enrolled",
    }
}
