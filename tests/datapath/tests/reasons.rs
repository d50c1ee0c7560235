//! Every reason has a packet.

use std::{collections::BTreeSet, fs, path::Path};

use nightgate_abi::Reason::{self, *};

/// Reasons that no packet of the tests has, and why.
const UNREACHED: &[(Reason, &str)] = &[
    (EthernetTruncated, "the kernel neither delivers nor takes such a frame"),
    (WorkSpace, "the programs' own array always has its element"),
    (BankMissing, "both banks are there from the load on"),
    (FlowTable, "the table of flows makes room for a new one"),
    (AssignRefused, "the kernel refuses no socket that the lookup in the same place has found"),
    (EchoFailed, "a packet that has been parsed has the bytes that are changed"),
    (TraceLost, "the ring of records is read faster than a test fills it"),
    (LogLost, "the ring of records is read faster than a test fills it"),
    (MirrorRefused, "the kernel refuses a copy for want of memory only"),
];

#[test]
fn every_reason_is_expected_by_a_test_or_said_to_be_out_of_reach() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let expected = words(&folder);
    let is_expected = |reason: &Reason| expected.contains(&format!("{reason:?}"));
    let is_unreached = |reason: &Reason| UNREACHED.iter().any(|(unreached, _)| unreached == reason);
    let all = || Reason::ALL.iter();
    let missing: Vec<_> =
        all().filter(|reason| !is_expected(reason) && !is_unreached(reason)).collect();
    assert!(missing.is_empty(), "no test expects {missing:?}: give each a packet");
    let reached: Vec<_> =
        all().filter(|reason| is_expected(reason) && is_unreached(reason)).collect();
    assert!(reached.is_empty(), "reached after all: {reached:?}");
}

/// The words of all tests but this one, without their imports.
fn words(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("the folder of the tests") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.append(&mut words(&path));
        } else if !path.ends_with(Path::new(file!()).file_name().expect("a file")) {
            let text = fs::read_to_string(&path).expect("a test");
            let code = text.split(";\n").filter(|item| !item.trim_start().starts_with("use "));
            let is_part = |character: char| character.is_alphanumeric() || character == '_';
            for word in code.flat_map(|item| item.split(|character| !is_part(character))) {
                found.insert(word.to_owned());
            }
        }
    }
    found
}
