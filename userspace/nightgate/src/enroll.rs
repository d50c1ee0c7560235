//! Redeems enrollment tokens.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};

use nightgate_sdk::EnrollmentMethod;

use crate::{
    identity_file::{EncryptArgs, save},
    management::PasswordArgs,
    output::print_text,
};

/// `nightgate enroll`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the token asks for decides what is needed:
  nightgate enroll alice.jwt --out alice.json                                a key is made
  nightgate enroll alice.jwt --out alice.json --cert alice.crt --key alice.key    a registered CA's certificate
  nightgate enroll acme.jwt --out laptop.json --cert l.crt --key l.key --name laptop   `nightgate ca token`
  nightgate enroll bob.jwt --password-file bob.txt                           only a password is set")]
pub(crate) struct EnrollArgs {
    #[command(flatten)]
    token: TokenFile,
    /// Where to write the identity file; readable by this user alone
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Certificate of a registered CA, PEM, with intermediates behind it
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM; kept in the identity file
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// What to be called, if the token is a CA's; the CA's settings decide
    #[arg(long, requires = "cert")]
    name: Option<String>,
    #[command(flatten)]
    encrypt: EncryptArgs,
    #[command(flatten)]
    password: PasswordArgs,
}

/// The file with the token.
#[derive(Debug, clap::Args)]
struct TokenFile {
    /// File with the token that `nightgate identity create` or `nightgate ca token` printed
    jwt_file: PathBuf,
}

/// `nightgate router enroll`
#[derive(Debug, clap::Args)]
pub(crate) struct EnrollRouterArgs {
    #[command(flatten)]
    token: TokenFile,
    /// Where to write the identity file; readable by this user alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where clients and routers will reach this router; leave it out if it only dials out
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    #[command(flatten)]
    encrypt: EncryptArgs,
}

/// Enrolls an identity.
pub(crate) async fn enroll(args: &EnrollArgs) -> anyhow::Result<()> {
    let token = args.token.read()?;
    let method = nightgate_sdk::enrollment_method(&token)?;
    if method == EnrollmentMethod::Updb {
        let password = args.password.read()?;
        nightgate_sdk::enroll_password(&token, &password).await.context("enroll")?;
        return print_text("password set; `nightgate login` asks for it");
    }
    let out = args.out.as_ref().context("say where the identity file goes with --out FILE")?;
    check_out(out)?;
    let passphrase = args.encrypt.passphrase()?;
    let identity = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => {
            let (cert, key) = (read(cert)?, read(key)?);
            let name = args.name.as_deref();
            nightgate_sdk::enroll_with_certificate(&token, &key, &cert, name).await
        }
        (Some(_) | None, _) if method != EnrollmentMethod::Ott => bail!(
            "the token enrolls with a certificate of a registered CA: add --cert FILE --key FILE"
        ),
        (Some(_) | None, _) => nightgate_sdk::enroll(&token).await,
    };
    save(identity.context("enroll")?, out, passphrase)?;
    print_text(&format!("identity written to {}", out.display()))
}

/// Enrolls a router or gateway.
pub(crate) async fn enroll_router(args: &EnrollRouterArgs) -> anyhow::Result<()> {
    check_out(&args.out)?;
    let token = args.token.read()?;
    let passphrase = args.encrypt.passphrase()?;
    let identity = nightgate_sdk::enroll_router(&token, args.advertise.as_deref())
        .await
        .context("enroll the router")?;
    save(identity, &args.out, passphrase)?;
    print_text(&format!("identity written to {}", args.out.display()))
}

impl TokenFile {
    fn read(&self) -> anyhow::Result<String> {
        let token = read(&self.jwt_file)?;
        Ok(token.trim().to_owned())
    }
}

/// Checks before a token is used that the result will have a place, because a token works only once.
fn check_out(out: &Path) -> anyhow::Result<()> {
    let shown = out.display();
    ensure!(!out.exists(), "{shown} exists; move it away or choose another --out");
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        ensure!(folder.is_dir(), "{} is no folder; create it first", folder.display());
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}
