//! Makes a controller directory.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use nightgate_model::{
    auth::default_policy,
    entity::{Identity, IdentityKind},
    id::IdentityId,
    kind::EntityKind,
};
use nightgate_pki::{
    Authority, Described, FileAccess, IssuedWithKey, Passphrase, PkiError, write_atomically,
};
use nightgate_store::{
    Action, AuditRecord, Author, Certificate, Change, EnrollmentTarget, SqliteStore, Step, Store,
    StoreError,
};

use crate::{
    Settings, SettingsError, StartError, clock,
    controller::{DirectoryLock, database_file, pki_dir},
};

/// Name of the first administrator.
const ADMIN: &str = "admin";

/// What [`init`] did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Initialized {
    /// The directory is new; the first administrator's identity file is here.
    New {
        /// The identity file.
        admin: PathBuf,
    },
    /// The directory had an administrator already; only its settings were written.
    Existing,
}

/// Why a directory was not initialized.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A directory or file cannot be written.
    #[error("write {}: {source}", path.display())]
    Write {
        /// The directory or file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The directory is in use.
    #[error(transparent)]
    Lock(#[from] StartError),
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The certificate authority cannot be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The database cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the directory, its settings, certificates, database and the first administrator, whose
/// identity file is `admin.json` (mode 0600). What exists already is kept; the settings are replaced.
///
/// # Errors
/// The directory is in use by a running controller or not writable, or something in it is damaged.
pub fn init(dir: &Path, settings: &Settings) -> Result<Initialized, InitError> {
    let hosts = settings.hosts()?;
    let write = |source| InitError::Write { path: dir.into(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(write)?;
    let _lock = DirectoryLock::acquire(dir)?;
    settings.save(dir)?;
    let authority = Authority::open(pki_dir(dir)?, &hosts, clock::now())?;
    let store = SqliteStore::open(&database_file(dir))?;
    let identities = store.load()?.model.identities;
    if identities.values().any(|stored| stored.entity.is_admin) {
        return Ok(Initialized::Existing);
    }
    let admin = dir.join("admin.json");
    make_admin(&authority, &store, settings, &admin)?;
    Ok(Initialized::New { admin })
}

/// Makes another signer, which signs from the next start on; see [`nightgate_pki::roll_over`].
///
/// # Errors
/// The directory is in use by a running controller, or its root's key is not there.
pub fn roll_over(dir: &Path) -> Result<(), InitError> {
    let _lock = DirectoryLock::acquire(dir)?;
    Ok(nightgate_pki::roll_over(pki_dir(dir)?, clock::now())?)
}

/// Makes another root, and another signer under both; see [`nightgate_pki::roll_over_root`].
///
/// # Errors
/// As for [`roll_over`]; or the last roll-over of the root is not over.
pub fn roll_over_root(dir: &Path) -> Result<(), InitError> {
    let _lock = DirectoryLock::acquire(dir)?;
    Ok(nightgate_pki::roll_over_root(pki_dir(dir)?, clock::now())?)
}

/// The certificates of a controller directory, running or not.
///
/// # Errors
/// A file cannot be read.
pub fn certificates(dir: &Path) -> Result<Vec<Described>, PkiError> {
    nightgate_pki::describe(pki_dir(dir)?)
}

/// Writes the identity file before the database knows the identity: a crash between leaves no
/// administrator, and the next start makes another one.
fn make_admin(
    authority: &Authority,
    store: &impl Store,
    settings: &Settings,
    path: &Path,
) -> Result<(), InitError> {
    let id = IdentityId::new(uuid::Uuid::new_v4().to_string());
    let mut made = authority.make_identity(&id, clock::now())?;
    if let Some(passphrase) = Passphrase::from_environment().map_err(PkiError::from)? {
        made.key_pem = passphrase.encrypt(&made.key_pem).map_err(PkiError::from)?;
    }
    let file = identity_file(settings, &made, authority.bundle().pem());
    write_atomically(path, file.as_bytes(), FileAccess::Owner)
        .map_err(|source| InitError::Write { path: path.into(), source })?;
    let identity = Identity {
        id,
        name: ADMIN.into(),
        kind: IdentityKind::Default,
        is_admin: true,
        disabled: false,
        disabled_until: None,
        role_attributes: BTreeSet::new(),
        fingerprint: None,
        auth_policy_id: default_policy(),
    };
    let certificate = Certificate::first(made.issued.fingerprint, made.issued.chain_pem, None);
    let certify = Step::Certify(EnrollmentTarget::Identity(identity.id.clone()), certificate);
    let created = AuditRecord {
        author: Author::controller(),
        action: Action::Create,
        kind: EntityKind::Identity,
        id: identity.id.to_string(),
        name: identity.name.clone(),
        before: None,
        after: serde_json::to_value(&identity).ok(),
    };
    let steps = vec![Step::Create(identity.into()), certify];
    let change = Change { steps, audit: vec![created] };
    store.apply(&change, clock::timestamp())?;
    Ok(())
}

/// OpenZiti's identity file.
fn identity_file(settings: &Settings, made: &IssuedWithKey, ca: &str) -> String {
    let url = format!("https://{}", settings.address);
    let file = serde_json::json!({
        "ztAPI": url,
        "ztAPIs": [url],
        "id": {
            "key": format!("pem:{}", made.key_pem),
            "cert": format!("pem:{}", made.issued.chain_pem),
            "ca": format!("pem:{ca}"),
        },
    });
    format!("{file:#}\n")
}
