//! `nightgate auth-policy ...`

use nightgate_model::{
    auth::{AuthPolicy, CertAuth, PasswordAuth, PrimaryAuth, SecondaryAuth},
    spec::AuthPolicySpec,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    entity::{Managed, Names, Shown, given},
    yes_or_no,
};

/// `nightgate auth-policy create`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: identities that authenticate with certificates only
  nightgate auth-policy create certificates --password false
  nightgate identity update alice --auth-policy certificates")]
pub(crate) struct CreateAuthPolicy {
    /// Unique name
    name: String,
    #[command(flatten)]
    rules: Rules,
}

/// `nightgate auth-policy update`
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct UpdateAuthPolicy {
    /// New name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    #[serde(skip)]
    rules: Rules,
}

/// What a policy says.
#[derive(Debug, clap::Args)]
struct Rules {
    /// Its identities may authenticate with a certificate [default: true]
    #[arg(long, value_name = "BOOL")]
    cert: Option<bool>,
    /// They may do so at the controller with one that has ended, to have it followed by another [default: false]
    #[arg(long, value_name = "BOOL")]
    expired_cert: Option<bool>,
    /// Its identities may authenticate with a password [default: true]
    #[arg(long, value_name = "BOOL")]
    password: Option<bool>,
    /// Shortest new password, 10 to 1024 bytes [default: 10]
    #[arg(long, value_name = "BYTES")]
    min_password_length: Option<u16>,
    /// New passwords have a character that is neither letter nor digit [default: false]
    #[arg(long, value_name = "BOOL")]
    special_char: Option<bool>,
    /// New passwords have a digit [default: false]
    #[arg(long, value_name = "BOOL")]
    number: Option<bool>,
    /// New passwords have an upper-case and a lower-case letter [default: false]
    #[arg(long, value_name = "BOOL")]
    mixed_case: Option<bool>,
    /// Failures in a row after which a name is refused for a while, 1 to 100 [default: 5]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// For how long, 1 to 1440 minutes [default: 5]
    #[arg(long, value_name = "MINUTES")]
    lockout: Option<u32>,
    /// Sessions wait for a second factor, also of those who have to enroll one first [default: false]
    #[arg(long, value_name = "BOOL")]
    totp: Option<bool>,
}

impl Rules {
    /// Those that are given, on top of those before.
    fn on(self, before: PrimaryAuth) -> PrimaryAuth {
        let PrimaryAuth { cert, updb, ext_jwt } = before;
        PrimaryAuth {
            cert: CertAuth {
                allowed: self.cert.unwrap_or(cert.allowed),
                allow_expired_certs: self.expired_cert.unwrap_or(cert.allow_expired_certs),
            },
            updb: PasswordAuth {
                allowed: self.password.unwrap_or(updb.allowed),
                min_password_length: self.min_password_length.unwrap_or(updb.min_password_length),
                require_special_char: self.special_char.unwrap_or(updb.require_special_char),
                require_number_char: self.number.unwrap_or(updb.require_number_char),
                require_mixed_case: self.mixed_case.unwrap_or(updb.require_mixed_case),
                max_attempts: self.max_attempts.unwrap_or(updb.max_attempts),
                lockout_duration_minutes: self.lockout.unwrap_or(updb.lockout_duration_minutes),
            },
            ext_jwt,
        }
    }

    /// Those that are given, as a body of PATCH.
    fn fields(&self) -> Value {
        let mut cert = json!({ "allowed": self.cert, "allowExpiredCerts": self.expired_cert });
        let mut updb = json!({
            "allowed": self.password,
            "minPasswordLength": self.min_password_length,
            "requireSpecialChar": self.special_char,
            "requireNumberChar": self.number,
            "requireMixedCase": self.mixed_case,
            "maxAttempts": self.max_attempts,
            "lockoutDurationMinutes": self.lockout,
        });
        for part in [&mut cert, &mut updb].into_iter().filter_map(Value::as_object_mut) {
            part.retain(|_, value| !value.is_null());
        }
        let parts = [("cert", cert), ("updb", updb)].into_iter();
        let given = parts.filter(|(_, part)| part.as_object().is_some_and(|part| !part.is_empty()));
        given.map(|(name, part)| (name.to_owned(), part)).collect::<Map<_, _>>().into()
    }
}

impl Managed for AuthPolicy {
    type Create = CreateAuthPolicy;
    type Update = UpdateAuthPolicy;
    const COLUMNS: &'static [&'static str] =
        &["certificate", "password", "shortest", "attempts", "lockout", "second factor"];

    fn wanted(args: CreateAuthPolicy) -> anyhow::Result<AuthPolicySpec> {
        let require_totp = args.rules.totp.unwrap_or_default();
        let secondary = SecondaryAuth { require_totp, ..SecondaryAuth::default() };
        let primary = args.rules.on(PrimaryAuth::default());
        Ok(AuthPolicySpec { name: args.name, primary, secondary })
    }

    fn changes(args: UpdateAuthPolicy) -> anyhow::Result<Map<String, Value>> {
        let mut changes = given(&args)?;
        if let Some(totp) = args.rules.totp {
            changes.insert("secondary".into(), json!({ "requireTotp": totp }));
        }
        let primary = args.rules.fields();
        if primary.as_object().is_some_and(|primary| !primary.is_empty()) {
            changes.insert("primary".into(), primary);
        }
        Ok(changes)
    }

    fn cells(shown: &Shown<Self>, _names: &Names) -> Vec<String> {
        let PrimaryAuth { cert, updb, .. } = &shown.entity.primary;
        let certificate = match (cert.allowed, cert.allow_expired_certs) {
            (true, true) => "yes, also expired",
            (allowed, _) => yes_or_no(allowed),
        };
        vec![
            certificate.into(),
            yes_or_no(updb.allowed).into(),
            updb.min_password_length.to_string(),
            updb.max_attempts.to_string(),
            format!("{} min", updb.lockout_duration_minutes),
            yes_or_no(shown.entity.secondary.require_totp).into(),
        ]
    }
}
