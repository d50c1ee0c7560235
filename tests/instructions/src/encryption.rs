//! Records and handshakes of the end-to-end encryption.

use std::{hint::black_box, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use nightgate_e2ee::{Binding, Cipher, KeyPair, Lines, Method, Own, Proposal, Protection};
use nightgate_identity::{Credentials, Identity};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair as CertificateKey,
};

use crate::{Case, Run};

/// What valgrind gives of a CPU has AES, but not the wide instructions that AEGIS-256X4 is for.
pub(crate) const CASES: &[Case] = &[
    Case { name: "AEGIS-256, seal 16 KiB", prepare: |_| seal(Form::Native) },
    Case { name: "AEGIS-256, open 16 KiB", prepare: |runs| open(Form::Native, runs) },
    Case { name: "XChaCha20-Poly1305, seal 16 KiB", prepare: |_| seal(Form::OpenZiti) },
    Case { name: "XChaCha20-Poly1305, open 16 KiB", prepare: |runs| open(Form::OpenZiti, runs) },
    Case { name: "AES-256-GCM, seal 16 KiB", prepare: |_| seal(Form::AesGcm) },
    Case { name: "AES-256-GCM, open 16 KiB", prepare: |runs| open(Form::AesGcm, runs) },
    Case { name: "handshake, both ends", prepare: |_| handshake(false) },
    Case { name: "handshake on an earlier one, both ends", prepare: |_| handshake(true) },
    Case { name: "OpenZiti's handshake, both ends", prepare: |_| open_ziti_handshake() },
];

/// Bytes of a plaintext.
const PLAINTEXT: usize = 16 * 1_024;

const BINDING: Binding<'_> = Binding { service: "service", instance: "", app_data: b"{}" };

/// How a circuit is encrypted.
#[derive(Clone, Copy)]
enum Form {
    Native,
    OpenZiti,
    AesGcm,
}

impl Form {
    /// Both ends of a circuit.
    fn circuit(self) -> Result<[Protection; 2]> {
        let (expected, ends) = match self {
            Self::Native => (Method::Native(Cipher::Aegis256), agree(&pair()?)?),
            Self::OpenZiti => (Method::OpenZiti, anonymous(Proposal::new(None, BINDING)?)?),
            Self::AesGcm => (Method::AesGcm, anonymous(Proposal::aes_gcm(None, BINDING)?)?),
        };
        let method = ends[0].method;
        let wide = Method::Native(Cipher::Aegis256X4);
        ensure!(method == expected || method == wide, "{method:?} instead of {expected:?}");
        Ok(ends)
    }
}

/// A seal of the kind that gateways make: in place, with room for the authenticator.
fn seal(form: Form) -> Result<Run> {
    let [mut end, _] = form.circuit()?;
    let mut plaintext = Vec::with_capacity(PLAINTEXT + end.sealer.overhead());
    plaintext.resize(PLAINTEXT, 7);
    Ok(Box::new(move || {
        let mut record = end.sealer.seal_in_place(std::mem::take(&mut plaintext), 0)?;
        black_box(&mut record).truncate(PLAINTEXT);
        plaintext = record;
        Ok(())
    }))
}

fn open(form: Form, runs: usize) -> Result<Run> {
    let [mut sender, mut end] = form.circuit()?;
    if let Some(header) = sender.sealer.header() {
        end.opener.open(&header, 0)?;
    }
    let sealed: Result<Vec<_>, _> =
        (0..runs).map(|_| sender.sealer.seal(&[7; PLAINTEXT], 0)).collect();
    let mut records = sealed?.into_iter();
    Ok(Box::new(move || {
        let mut record = records.next().context("no more records")?;
        match end.opener.open_in_place(&mut record, 0) {
            Some(length) => ensure!(length? == PLAINTEXT, "a part of a record"),
            None => drop(black_box(end.opener.open(&record, 0)?)),
        }
        black_box(record);
        Ok(())
    }))
}

/// The whole of it, or the short one that rests on an earlier circuit of the same ends.
fn handshake(has_line: bool) -> Result<Run> {
    let mut pair = pair()?;
    if has_line {
        pair = pair.map(|own| Own::keeping(own.credentials, &Arc::<Lines>::default()));
    }
    Ok(Box::new(move || {
        black_box(agree(&pair)?);
        Ok(())
    }))
}

fn open_ziti_handshake() -> Result<Run> {
    Ok(Box::new(|| {
        black_box(anonymous(Proposal::new(None, BINDING)?)?);
        Ok(())
    }))
}

/// A circuit between two identities.
fn agree([dialer, host]: &[Own; 2]) -> Result<[Protection; 2]> {
    let proposal = Proposal::new(Some(dialer.clone()), BINDING)?;
    let share = proposal.share();
    let (answer, host) =
        Protection::answer(None, Some(host), BINDING, &share.public_key, &share.handshake)?;
    Ok([proposal.complete(&answer.public_key, &answer.handshake)?, host])
}

/// A circuit between ends that prove nothing.
fn anonymous(proposal: Proposal) -> Result<[Protection; 2]> {
    let keys = KeyPair::generate()?;
    let share = proposal.share();
    let (answer, host) = Protection::answer(Some(&keys), None, BINDING, &share.public_key, b"")?;
    Ok([proposal.complete(&answer.public_key, &answer.handshake)?, host])
}

/// Two identities of one authority that keep nothing of a handshake.
fn pair() -> Result<[Own; 2]> {
    let key = CertificateKey::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let trusted = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let own = |id| -> Result<Own> {
        let key = CertificateKey::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, id);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer)?.pem();
        let controller = "https://controller.example:443".to_owned();
        let identity =
            Identity::new(controller, key.serialize_pem(), certificate, trusted.clone())?;
        Ok(Arc::new(Credentials::new(&identity)?).into())
    };
    Ok([own("dialer")?, own("host")?])
}
