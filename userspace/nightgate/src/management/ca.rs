//! `nightgate ca ...`

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context as _;
use nightgate_model::{
    ca::DEFAULT_NAME_FORMAT, entity::Ca, id::CaId, kind::EntityKind, spec::CaSpec,
};
use nightgate_pki::ForeignCertificate;
use serde::{Deserialize, Serialize};

use super::{
    attribute::AttributeList,
    entity::{EntityCommand, Managed, NameArgs, Names, Shown},
    joined, token, yes_or_no,
};
use crate::output::print_text;

/// `nightgate ca ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CaCommand {
    #[command(flatten)]
    Entity(EntityCommand<Ca>),
    /// Prove that the CA is yours to register; it counts for nothing before
    Verify(VerifyArgs),
    /// Print or write the token by which anybody with a certificate of the CA enrolls (--auto-enroll)
    Token(TokenArgs),
}

/// `nightgate ca create`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  nightgate ca create acme --cert acme.crt --auth --auto-enroll --attribute laptops
  nightgate ca verify acme --key acme.key
  nightgate ca token acme --jwt-out acme.jwt
  nightgate enroll acme.jwt --cert laptop.crt --key laptop.key --out laptop.json")]
pub(crate) struct CreateCa {
    /// Unique name
    name: String,
    /// Its certificate, PEM
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// Identities may authenticate with its certificates
    #[arg(long)]
    auth: bool,
    /// Whoever holds a certificate of it may enroll, as a new identity
    #[arg(long)]
    auto_enroll: bool,
    /// Identities may be created that enroll with one of its certificates (`identity create --ca`)
    #[arg(long)]
    ott_enroll: bool,
    /// Attribute of the identities that enroll by themselves; may be repeated
    #[arg(long = "attribute", value_name = "ATTRIBUTE")]
    attributes: Vec<String>,
    // In a documentation comment, the brackets would be links.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = DEFAULT_NAME_FORMAT,
        help = "Their names, of [caId], [caName], [commonName], [requestedName], [identityId]"
    )]
    name_format: String,
}

/// `nightgate ca update`
#[derive(Debug, Serialize, clap::Args)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateCa {
    /// New name
    #[arg(long)]
    name: Option<String>,
    /// Identities may authenticate with its certificates
    #[arg(long = "auth", value_name = "BOOL")]
    is_auth_enabled: Option<bool>,
    /// Whoever holds a certificate of it may enroll, as a new identity
    #[arg(long = "auto-enroll", value_name = "BOOL")]
    is_auto_ca_enrollment_enabled: Option<bool>,
    /// Identities may be created that enroll with one of its certificates
    #[arg(long = "ott-enroll", value_name = "BOOL")]
    is_ott_ca_enrollment_enabled: Option<bool>,
    /// All attributes of the identities that enroll by themselves, separated by commas; '' for none
    #[arg(long, value_name = "A,B")]
    #[serde(rename = "identityRoles")]
    attributes: Option<AttributeList>,
    /// Their names
    #[arg(long = "name-format", value_name = "FORMAT")]
    identity_name_format: Option<String>,
}

/// `nightgate ca verify`
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    which: NameArgs,
    /// The CA's private key, PEM: a certificate is signed with it here, and the key goes nowhere
    #[arg(long, value_name = "FILE", required_unless_present = "cert")]
    key: Option<PathBuf>,
    /// A certificate that the CA has signed, PEM, whose common name is the verificationToken that
    /// `ca show --json` prints
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    cert: Option<PathBuf>,
}

/// `nightgate ca token`
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    which: NameArgs,
    /// Write it to this file instead of printing it
    #[arg(long, value_name = "FILE")]
    jwt_out: Option<PathBuf>,
    /// How it is signed: RS256 for OpenZiti clients of 2022, which take no other
    #[arg(long, value_name = "ALGORITHM", default_value = "ES256", value_parser = ["ES256", "RS256"])]
    jwt_algorithm: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    id: CaId,
    name: String,
    cert_pem: String,
}

impl CaCommand {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Entity(command) => command.run().await,
            Self::Verify(args) => verify(&args).await,
            Self::Token(args) => print_token(&args).await,
        }
    }
}

impl Managed for Ca {
    type Create = CreateCa;
    type Update = UpdateCa;
    const COLUMNS: &'static [&'static str] =
        &["verified", "auth", "auto-enroll", "ott-enroll", "attributes"];

    fn wanted(args: CreateCa) -> anyhow::Result<CaSpec> {
        Ok(CaSpec {
            name: args.name,
            cert_pem: read(&args.cert)?,
            is_auth_enabled: args.auth,
            is_auto_ca_enrollment_enabled: args.auto_enroll,
            is_ott_ca_enrollment_enabled: args.ott_enroll,
            identity_roles: args.attributes.into_iter().collect(),
            identity_name_format: args.name_format,
        })
    }

    fn cells(shown: &Shown<Self>, _names: &Names) -> Vec<String> {
        let ca = &shown.entity;
        vec![
            yes_or_no(ca.is_verified).into(),
            yes_or_no(ca.is_auth_enabled).into(),
            yes_or_no(ca.is_auto_ca_enrollment_enabled).into(),
            yes_or_no(ca.is_ott_ca_enrollment_enabled).into(),
            joined(&ca.identity_roles),
        ]
    }
}

async fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let client = args.which.management.connect().await?;
    let ca: Registered = client.find(EntityKind::Ca, &args.which.name).await?;
    let proof = match (&args.key, &args.cert) {
        (Some(key), _) => {
            let certificate = ForeignCertificate::from_pem(&ca.cert_pem)?;
            let proved = certificate.prove(&read(key)?, ca.id.as_str(), SystemTime::now().into());
            proved.with_context(|| key.display().to_string())?
        }
        (None, Some(cert)) => read(cert)?,
        (None, None) => anyhow::bail!("--key FILE or --cert FILE"),
    };
    client.act_with_text(EntityKind::Ca, ca.id.as_str(), "verify", proof).await?;
    print_text(&format!("{} is verified", ca.name))
}

async fn print_token(args: &TokenArgs) -> anyhow::Result<()> {
    let client = args.which.management.connect().await?;
    let ca: Registered = client.find(EntityKind::Ca, &args.which.name).await?;
    let token =
        client.text(&format!("cas/{}/jwt?jwtAlgorithm={}", ca.id, args.jwt_algorithm)).await?;
    match &args.jwt_out {
        Some(path) => token::write(path, &token),
        None => print_text(&token),
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}
