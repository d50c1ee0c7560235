//! Roll-overs of the signer and of the root.

use std::{fs, path::Path};

use nightgate_model::id::IdentityId;
use nightgate_pki::{Authority, PkiError, describe, roll_over, roll_over_root};
use rustls_pki_types::CertificateDer;
use time::Duration;

use super::{certificates, names, now, open, request, verifies};

/// The certificates of the directory that a roll-over touches.
fn snapshot(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn restore(dir: &Path, files: &[(String, Vec<u8>)]) {
    for entry in fs::read_dir(dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

fn leaf(authority: &Authority) -> CertificateDer<'static> {
    let id = IdentityId::new("i");
    let issued = authority.sign_identity(request().as_bytes(), &id, now()).unwrap();
    certificates(&issued.chain_pem).remove(0)
}

#[test]
fn a_roll_over_keeps_what_was_signed_before_trusted_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let before = open(dir.path()).unwrap();
    let old = leaf(&before);
    roll_over(dir.path(), now()).unwrap();
    let after = open(dir.path()).unwrap();
    let new = leaf(&after);
    let signers = after.trust_anchors();
    assert_eq!(signers.len(), 3, "root, the new signer, the one before");
    for leaf in [&old, &new] {
        assert!(signers.iter().any(|signer| verifies(leaf, signer)));
    }
    assert!(!before.trust_anchors().iter().any(|signer| verifies(&new, signer)));
    assert_eq!(certificates(after.bundle().pem()).len(), 3);
    // The server presents a certificate of the new signer, with its old key: tokens stay good.
    let (old, new) = (before.server(), after.server());
    assert_eq!(old.key.secret_der(), new.key.secret_der());
    assert_ne!(old.chain, new.chain);
    assert!(verifies(&new.chain[0], &new.chain[1]) && verifies(&new.chain[1], &signers[0]));
    // What the old signer has signed has ended by then.
    let names = names(&["ctrl.example"]);
    let later = Authority::open(dir.path(), &names, now() + Duration::days(367)).unwrap();
    assert_eq!(later.trust_anchors().len(), 2);
    let files: Vec<_> = describe(dir.path()).unwrap().into_iter().map(|one| one.file).collect();
    assert_eq!(files, ["root.crt", "intermediate.crt", "server.crt", "previous.pem"]);
}

#[test]
fn an_interrupted_roll_over_is_finished_or_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let before = open(dir.path()).unwrap();
    let old = snapshot(dir.path());
    roll_over(dir.path(), now()).unwrap();
    let new = snapshot(dir.path());
    let of = |files: &[(String, Vec<u8>)], name: &str| {
        files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.clone()).unwrap()
    };
    let next_key = ("intermediate-next.key".to_owned(), of(&new, "intermediate.key"));
    let next = ("intermediate-next.crt".to_owned(), of(&new, "intermediate.crt"));
    let previous = ("previous.pem".to_owned(), of(&new, "previous.pem"));
    let with = |more: &[&(String, Vec<u8>)]| {
        let mut files = old.clone();
        files.extend(more.iter().map(|file| (*file).clone()));
        files
    };
    let mut moved = with(&[&previous, &next]);
    moved.iter_mut().find(|(file, _)| file == "intermediate.key").unwrap().1 = next_key.1.clone();
    let states = [
        (with(&[&next_key]), 2, "the key was written"),
        (with(&[&next_key, &next]), 3, "the certificate was written"),
        (with(&[&next_key, &next, &previous]), 3, "the old one was remembered"),
        (moved, 3, "the key was moved"),
    ];
    for (files, anchors, what) in states {
        restore(dir.path(), &files);
        let authority = open(dir.path()).unwrap();
        assert_eq!(authority.trust_anchors().len(), anchors, "{what}");
        assert!(verifies(&leaf(&authority), &authority.trust_anchors()[1]), "{what}");
        assert_eq!(authority.trust_anchors()[0], before.trust_anchors()[0]);
        roll_over(dir.path(), now()).unwrap();
        assert_eq!(open(dir.path()).unwrap().trust_anchors().len(), anchors + 1, "{what}");
    }
}

#[test]
fn a_roll_over_without_the_roots_key_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap();
    fs::remove_file(dir.path().join("root.key")).unwrap();
    let before = snapshot(dir.path());
    let refused = roll_over(dir.path(), now()).unwrap_err();
    assert!(refused.to_string().contains("root.key"), "{refused}");
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn another_root_is_beside_the_old_one_until_everybody_has_been_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let before = open(dir.path()).unwrap();
    let (old_leaf, [old_root, old_signer]) =
        (leaf(&before), before.trust_anchors().try_into().unwrap());
    roll_over_root(dir.path(), now()).unwrap();
    let after = open(dir.path()).unwrap();
    let [root, signer, previous, still] = after.trust_anchors().try_into().unwrap();
    assert_eq!((&previous, &still), (&old_signer, &old_root));
    assert!(root != old_root && verifies(&root, &root) && verifies(&signer, &root));
    assert!(verifies(&old_leaf, &previous));
    assert_eq!(certificates(after.bundle().pem()).len(), 4);
    // Who knows the old root alone follows the server's chain, and that of whoever enrolls now.
    let id = IdentityId::new("i");
    let issued = after.sign_identity(request().as_bytes(), &id, now()).unwrap();
    for chain in [after.server().chain, certificates(&issued.chain_pem)] {
        assert!(verifies(&chain[0], &chain[1]) && verifies(&chain[1], &old_root));
        assert!(verifies(&chain[0], &signer));
    }
    assert_eq!(before.server().key.secret_der(), after.server().key.secret_der());

    for refused in [roll_over(dir.path(), now()), roll_over_root(dir.path(), now())] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, PkiError::RollingOver { .. }), "{refused}");
    }
    let later = now() + Duration::days(367);
    let names = names(&["ctrl.example"]);
    let alone = Authority::open(dir.path(), &names, later).unwrap();
    assert_eq!(alone.trust_anchors(), [root.clone(), signer]);
    let chain = alone.server().chain;
    assert!(verifies(&chain[0], &chain[1]) && verifies(&chain[1], &root));
    let files: Vec<_> = describe(dir.path()).unwrap().into_iter().map(|one| one.file).collect();
    let expected = ["root.crt", "intermediate.crt", "server.crt", "previous.pem", "old-root.pem"];
    assert_eq!(files, expected);
    roll_over(dir.path(), later).unwrap();
    assert_eq!(Authority::open(dir.path(), &names, later).unwrap().trust_anchors().len(), 3);
}

#[test]
fn an_interrupted_roll_over_of_the_root_is_finished_or_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let before = open(dir.path()).unwrap();
    let old = snapshot(dir.path());
    roll_over_root(dir.path(), now()).unwrap();
    let new = snapshot(dir.path());
    // Every file in the order in which it is written, and then in which it is moved.
    let steps = [
        ("root-next.key", "root.key"),
        ("root-next.crt", "root.crt"),
        ("intermediate-next.key", "intermediate.key"),
        ("old-root-next.pem", "old-root.pem"),
        ("intermediate-next.crt", "intermediate.crt"),
    ];
    let of = |name: &str| new.iter().find(|(file, _)| file == name).unwrap().1.clone();
    for written in 1..=steps.len() {
        let mut files = old.clone();
        files.extend(steps[..written].iter().map(|(next, last)| ((*next).to_owned(), of(last))));
        restore(dir.path(), &files);
        let authority = open(dir.path()).unwrap();
        let is_begun = written == steps.len();
        let anchors = if is_begun { 4 } else { 2 };
        assert_eq!(authority.trust_anchors().len(), anchors, "{written} written");
        assert!(verifies(&authority.trust_anchors()[1], &authority.trust_anchors()[0]));
        // What was left of it comes with no other roll-over.
        if !is_begun {
            roll_over(dir.path(), now()).unwrap();
            let anchors = open(dir.path()).unwrap().trust_anchors();
            assert_eq!((anchors.len(), &anchors[0]), (3, &before.trust_anchors()[0]));
        }
    }
    let moves = ["old-root.pem", "root.key", "root.crt", "intermediate.key"];
    for moved in 0..=moves.len() {
        let mut files = old.clone();
        files.push(("previous.pem".to_owned(), of("previous.pem")));
        for (next, last) in steps {
            let name = if moves[..moved].contains(&last) { last } else { next };
            files.retain(|(file, _)| file != name);
            files.push((name.to_owned(), of(last)));
        }
        restore(dir.path(), &files);
        assert_eq!(open(dir.path()).unwrap().trust_anchors().len(), 4, "{moved} moved");
        let others = |files: Vec<(String, Vec<u8>)>| -> Vec<_> {
            files.into_iter().filter(|(file, _)| file != "server.crt").collect()
        };
        assert_eq!(others(snapshot(dir.path())), others(new.clone()), "{moved} moved");
    }
}
