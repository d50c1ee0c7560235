//! The certificate authority: opens its directory and signs.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use jsonwebtoken::jwk::JwkSet;
use nightgate_model::{
    id::{IdentityId, RouterId},
    token::{EnrollmentClaims, JwtAlgorithm},
};
use rcgen::{
    ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{GeneralName, X509Certificate};

use crate::{
    CaBundle, Directory, Issued, IssuedWithKey, PkiError, RequestError, TokenError, TokenKey,
    ca::{open_intermediate, open_root},
    issue::{fingerprint, host_name, leaf, params, pem_of},
    pair::{KeyKind, PairFiles, make_key, parse},
    request::proven_key,
    rollover::{self, OldRoot},
    seal::Seal,
};

const SERVER_LIFETIME: Duration = Duration::days(365);
pub(crate) const ENDPOINT_LIFETIME: Duration = Duration::days(365);

/// A server certificate with less time left is made anew at start, with the same key.
const SERVER_RENEWAL: Duration = Duration::days(60);

/// The certificate authority of one controller.
pub struct Authority {
    root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    previous: Vec<CertificateDer<'static>>,
    old_root: Option<OldRoot>,
    issuer: Issuer<'static, KeyPair>,
    server: ServerPair,
    legacy_server: Option<ServerPair>,
    session_key: TokenKey,
    seal: Seal,
    bundle: CaBundle,
    trust_domain: String,
}

/// A TLS server certificate with its key, which also signs enrollment tokens.
struct ServerPair {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    tokens: TokenKey,
}

/// What a TLS server presents.
pub struct ServerIdentity {
    /// Leaf, then intermediate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key of the leaf.
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Opens the authority in `dir`, making what is missing.
    ///
    /// `names` are the hosts that the TLS server certificate is valid for; it is made anew when they
    /// change or its end is near. The root's key is only needed while there is no intermediate. Private keys are encrypted
    /// if the directory has a passphrase, also those that were there before it had one.
    ///
    /// # Errors
    /// A file cannot be read or written, does not hold what it should, is missing although others
    /// depend on it, or a CA certificate has expired.
    pub fn open(
        dir: impl Into<Directory>,
        names: &[ServerName<'static>],
        now: OffsetDateTime,
    ) -> Result<Self, PkiError> {
        let dir = &dir.into();
        make_directory(dir.path())?;
        dir.encrypt_keys()?;
        rollover::finish(dir)?;
        let root = open_root(dir, now)?;
        let (intermediate, key) = open_intermediate(dir, &root, now)?;
        let previous = rollover::previous(dir, &intermediate, now)?;
        let old_root = OldRoot::load(dir, &intermediate, now)?;
        let issuer = Issuer::from_ca_cert_der(&intermediate, key)
            .map_err(|source| PkiError::Make { what: "the issuer", source })?;
        let files = PairFiles::new(dir, "server");
        let server = open_server(&files, KeyKind::P256, names, (&intermediate, &issuer), now)?;
        Ok(Self {
            bundle: CaBundle::new(&anchors(&root, &intermediate, &previous, old_root.as_ref()))?,
            session_key: TokenKey::open(&dir.key("token"))?,
            seal: Seal::open_key(&dir.key("seal"))?,
            trust_domain: fingerprint(&root),
            root,
            intermediate,
            previous,
            old_root,
            issuer,
            server,
            legacy_server: None,
        })
    }

    /// Opens a second server certificate, with an RSA key, for clients that verify nothing but
    /// RS256 in an enrollment token: they check it with the certificate that the server presents.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_legacy_server(
        &mut self,
        dir: impl Into<Directory>,
        names: &[ServerName<'static>],
        now: OffsetDateTime,
    ) -> Result<(), PkiError> {
        let files = PairFiles::new(&dir.into(), "server-legacy");
        let issuer = (&self.intermediate, &self.issuer);
        self.legacy_server = Some(open_server(&files, KeyKind::Rsa, names, issuer, now)?);
        Ok(())
    }

    /// What the TLS server presents.
    pub fn server(&self) -> ServerIdentity {
        self.presented(&self.server)
    }

    /// What it presents to legacy clients, if it serves any.
    pub fn legacy_server(&self) -> Option<ServerIdentity> {
        self.legacy_server.as_ref().map(|pair| self.presented(pair))
    }

    fn presented(&self, pair: &ServerPair) -> ServerIdentity {
        ServerIdentity {
            chain: vec![pair.certificate.clone(), self.signer().clone()],
            key: PrivatePkcs8KeyDer::from(pair.key.serialize_der()).into(),
        }
    }

    /// The intermediate's certificate, by the root that everybody trusts.
    fn signer(&self) -> &CertificateDer<'static> {
        self.old_root.as_ref().map_or(&self.intermediate, |old| &old.signer)
    }

    /// Roots and intermediates: what client certificates are checked against. All, because some SDKs
    /// present their certificate without its issuer.
    pub fn trust_anchors(&self) -> Vec<CertificateDer<'static>> {
        anchors(&self.root, &self.intermediate, &self.previous, self.old_root.as_ref())
    }

    /// What clients trust.
    pub fn bundle(&self) -> &CaBundle {
        &self.bundle
    }

    /// The key of session tokens.
    pub fn session_key(&self) -> &TokenKey {
        &self.session_key
    }

    /// What secrets are sealed with where they are kept.
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// The public keys of all tokens: those of sessions first, then those of enrollments.
    ///
    /// # Errors
    /// A key fails.
    pub fn token_keys(&self) -> Result<JwkSet, TokenError> {
        let servers = [Some(&self.server), self.legacy_server.as_ref()].into_iter().flatten();
        let keys = [&self.session_key].into_iter().chain(servers.map(|server| &server.tokens));
        Ok(JwkSet { keys: keys.map(TokenKey::jwk).collect::<Result<_, _>>()? })
    }

    /// Signs an enrollment token with the key of the TLS server certificate that the client will be
    /// presented, which is how it checks the token at first contact.
    ///
    /// # Errors
    /// The key fails, or there is none for this algorithm.
    pub fn sign_enrollment(
        &self,
        claims: &EnrollmentClaims,
        algorithm: JwtAlgorithm,
    ) -> Result<String, TokenError> {
        let pair = match algorithm {
            JwtAlgorithm::Es256 => &self.server,
            JwtAlgorithm::Rs256 => self.legacy_server.as_ref().ok_or(TokenError::NoLegacyKey)?,
        };
        pair.tokens.sign(claims)
    }

    /// Signs a client certificate for an identity.
    ///
    /// # Errors
    /// The request is malformed, unproven or has an unsupported key.
    pub fn sign_identity(
        &self,
        request: &[u8],
        id: &IdentityId,
        now: OffsetDateTime,
    ) -> Result<Issued, RequestError> {
        let key = proven_key(request)?;
        self.issue_identity(&key, id, now).or(Err(RequestError::Key))
    }

    /// Makes a key and a client certificate for an identity of this host.
    ///
    /// # Errors
    /// The key or certificate cannot be made.
    pub fn make_identity(
        &self,
        id: &IdentityId,
        now: OffsetDateTime,
    ) -> Result<IssuedWithKey, PkiError> {
        let make = |source| PkiError::Make { what: "an identity", source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let issued = self.issue_identity(&key, id, now).map_err(make)?;
        Ok(IssuedWithKey { issued, key_pem: key.serialize_pem() })
    }

    /// Signs a certificate for an edge router: client towards controller and other routers, server
    /// for `host`, where it accepts clients and links.
    ///
    /// # Errors
    /// The request is malformed, unproven or has an unsupported key.
    pub fn sign_router(
        &self,
        request: &[u8],
        id: &RouterId,
        host: Option<&ServerName<'_>>,
        now: OffsetDateTime,
    ) -> Result<Issued, RequestError> {
        let key = proven_key(request)?;
        self.issue_router(&key, id, host, now).or(Err(RequestError::Key))
    }

    fn issue_identity(
        &self,
        key: &impl PublicKeyData,
        id: &IdentityId,
        now: OffsetDateTime,
    ) -> Result<Issued, rcgen::Error> {
        let names = vec![self.spiffe("identity", id.as_str())?];
        let usages = [ExtendedKeyUsagePurpose::ClientAuth];
        let params = leaf(params(id.as_str(), now, ENDPOINT_LIFETIME), &usages, names);
        Ok(self.issued(params.signed_by(key, &self.issuer)?.der()))
    }

    fn issue_router(
        &self,
        key: &impl PublicKeyData,
        id: &RouterId,
        host: Option<&ServerName<'_>>,
        now: OffsetDateTime,
    ) -> Result<Issued, rcgen::Error> {
        let mut names = vec![self.spiffe("router", id.as_str())?];
        if let Some(host) = host {
            names.push(host_name(host)?);
        }
        let usages = [ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let params = leaf(params(id.as_str(), now, ENDPOINT_LIFETIME), &usages, names);
        Ok(self.issued(params.signed_by(key, &self.issuer)?.der()))
    }

    fn spiffe(&self, kind: &str, id: &str) -> Result<SanType, rcgen::Error> {
        let uri = format!("spiffe://{}/{kind}/{id}", self.trust_domain);
        Ok(SanType::URI(uri.try_into()?))
    }

    fn issued(&self, certificate: &CertificateDer<'_>) -> Issued {
        Issued {
            chain_pem: pem_of(certificate) + &pem_of(self.signer()),
            fingerprint: fingerprint(certificate),
        }
    }
}

fn anchors(
    root: &CertificateDer<'static>,
    intermediate: &CertificateDer<'static>,
    previous: &[CertificateDer<'static>],
    old_root: Option<&OldRoot>,
) -> Vec<CertificateDer<'static>> {
    let old_root = old_root.map(|old| &old.root);
    [root, intermediate].into_iter().chain(previous).chain(old_root).cloned().collect()
}

fn make_directory(dir: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| PkiError::File {
        operation: "make directory",
        path: PathBuf::from(dir),
        source,
    })
}

/// A TLS server certificate, for these names and with time left. Its key stays: outstanding
/// enrollment tokens are signed with it.
fn open_server(
    files: &PairFiles,
    kind: KeyKind,
    names: &[ServerName<'static>],
    (intermediate, issuer): (&CertificateDer<'static>, &Issuer<'static, KeyPair>),
    now: OffsetDateTime,
) -> Result<ServerPair, PkiError> {
    let key = match files.load_certificate()? {
        Some(server) => {
            let key = files.load_key_of(&server, kind)?;
            if is_current(&server, names, now) && is_signed_by(&server, intermediate) {
                return server_pair(kind, server, key);
            }
            key
        }
        None => make_key(&files.key, kind)?,
    };
    let make = |source| PkiError::Make { what: "the server certificate", source };
    let sans = names.iter().map(host_name).collect::<Result<Vec<_>, _>>().map_err(make)?;
    let usages = [ExtendedKeyUsagePurpose::ServerAuth];
    let params = leaf(params("Nightgate controller", now, SERVER_LIFETIME), &usages, sans);
    let server = params.signed_by(&key, issuer).map_err(make)?;
    files.save_certificates(&(pem_of(server.der()) + &pem_of(intermediate)))?;
    server_pair(kind, server.der().clone(), key)
}

fn server_pair(
    kind: KeyKind,
    certificate: CertificateDer<'static>,
    key: KeyPair,
) -> Result<ServerPair, PkiError> {
    let tokens = match kind {
        KeyKind::P256 => TokenKey::new(&key)?,
        KeyKind::Rsa => TokenKey::rsa(&key)?,
    };
    Ok(ServerPair { certificate, key, tokens })
}

/// After a roll-over it is not.
fn is_signed_by(server: &CertificateDer<'_>, intermediate: &CertificateDer<'_>) -> bool {
    let intermediate = parse(intermediate);
    parse(server).verify_signature(Some(intermediate.public_key())).is_ok()
}

fn is_current(
    server: &CertificateDer<'_>,
    names: &[ServerName<'static>],
    now: OffsetDateTime,
) -> bool {
    let certificate = parse(server);
    let end = certificate.validity().not_after.timestamp();
    let wanted: BTreeSet<_> = names.iter().map(|name| name.to_str().into_owned()).collect();
    end > (now + SERVER_RENEWAL).unix_timestamp() && wanted == hosts_of(&certificate)
}

fn hosts_of(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    names.iter().flat_map(|extension| &extension.value.general_names).filter_map(host_of).collect()
}

fn host_of(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::DNSName(name) = name {
        return Some((*name).to_owned());
    }
    let GeneralName::IPAddress(bytes) = name else { return None };
    if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
        return Some(IpAddr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(*bytes).ok().map(|v6| IpAddr::from(v6).to_string())
}
