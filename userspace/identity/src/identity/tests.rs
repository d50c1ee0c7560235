//! Identity files.

use super::*;

#[test]
fn saved_identity_loads_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.json");
    let identity = sample();

    identity.save(&path).unwrap();
    identity.save(&path).unwrap();

    let loaded = Identity::load(&path).unwrap();
    assert_eq!(loaded.to_json(), identity.to_json());
    assert_eq!(loaded.controller(), "https://ctrl.example:443");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn file_of_a_client_of_2022_loads() {
    let identity = sample();
    let file = identity.to_json().replacen("pem:-----BEGIN", "-----BEGIN", 1);
    assert_ne!(file, identity.to_json());

    assert_eq!(Identity::from_json(&file).unwrap().to_json(), identity.to_json());
}

#[test]
fn an_encrypted_key_is_opened_by_its_passphrase_only_and_stays_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.json");
    let passphrase = |text| Passphrase::new(text).unwrap();
    let plain = sample();
    plain.clone().encrypted(passphrase("correct horse")).unwrap().save(&path).unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains("BEGIN PRIVATE KEY"));

    let missing = Identity::load(&path).unwrap_err();
    let wrong = Identity::load_with(&path, &passphrase("battery staple")).unwrap_err();
    for (error, said) in [(missing, "NIGHTGATE_KEY_PASSPHRASE_FILE"), (wrong, "another passphrase")]
    {
        let text = error.to_string();
        assert!(text.contains(said) && text.contains("web.json"), "{text}");
    }

    let loaded = Identity::load_with(&path, &passphrase("correct horse\n")).unwrap();
    assert_eq!(loaded.private_key().unwrap(), plain.private_key().unwrap());
    let next = sample();
    let renewed =
        loaded.renewed(next.key_pem.clone(), next.certificates_pem, next.trusted_pem).unwrap();
    renewed.save(&path).unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains("BEGIN PRIVATE KEY"));
    let again = Identity::load_with(&path, &passphrase("correct horse")).unwrap();
    assert_eq!(again.private_key().unwrap(), renewed.private_key().unwrap());
    plain.save(&path).unwrap();
    Identity::load_with(&path, &passphrase("not needed")).unwrap();
}

#[cfg(unix)]
#[test]
fn saved_identity_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.json");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

    sample().save(&path).unwrap();

    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn failed_save_leaves_nothing_behind_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent").join("web.json");

    let error = sample().save(&path).unwrap_err();

    assert!(error.to_string().contains("absent/web.json"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_holds_no_identity_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "{}").unwrap();

    let error = Identity::load(file.path()).unwrap_err();

    assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
    assert!(
        matches!(error, IdentityError::Unusable { source, .. } if matches!(*source, IdentityError::Shape(_)))
    );
}

#[test]
fn key_kept_outside_the_file_is_refused_by_name() {
    let json = sample().to_json().replacen("\"pem:-----BEGIN PRIVATE", "\"file:///x", 1);

    let error = Identity::from_json(&json).unwrap_err();

    assert!(matches!(error, IdentityError::NotInline { part: "key" }), "{error}");
}

#[test]
fn controller_urls_give_host_and_port() {
    let address = |url: &str| {
        let sample = sample();
        Identity { controller: url.into(), ..sample }.controller_address().ok()
    };
    assert_eq!(address("https://c.example:6262/edge"), Some(("c.example".into(), 6262)));
    assert_eq!(address("https://c.example"), Some(("c.example".into(), 443)));
    assert_eq!(address("https://[fd00::1]:1280"), Some(("fd00::1".into(), 1280)));
    assert_eq!(address("https://10.0.0.1:70000"), None);
    assert_eq!(address("http://c.example"), None);
    assert_eq!(address("https://"), None);
}

#[test]
fn a_certificate_is_due_when_two_thirds_of_its_life_are_over() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 1, 31));
    let certificate = params.self_signed(&key).unwrap().pem();
    let controller = "https://ctrl.example:443".into();
    let identity =
        Identity::new(controller, key.serialize_pem(), certificate.clone(), certificate).unwrap();
    let due = params.not_before.unix_timestamp() + 20 * 86_400;
    assert!(!identity.is_due(due - 1));
    assert!(identity.is_due(due));
    assert!(identity.is_due(params.not_after.unix_timestamp()));
}

#[test]
fn debug_output_does_not_show_the_key() {
    assert!(!format!("{:?}", sample()).contains("PRIVATE"));
}

fn sample() -> Identity {
    let made = rcgen::generate_simple_self_signed(vec!["web".into()]).unwrap();
    Identity::new(
        "https://ctrl.example:443".into(),
        made.signing_key.serialize_pem(),
        made.cert.pem(),
        made.cert.pem(),
    )
    .unwrap()
}
