//! Sets in files of their own, and guards that name sets.

use std::collections::BTreeMap;

use nightgate_config::{
    Config, ConfigError, FileError, Files, PortRange, Prefix, Set, SetName, parse, parse_with,
};
use proptest::prelude::*;

/// Files by path.
struct Folder(BTreeMap<&'static str, String>);

impl Files for Folder {
    fn content(&mut self, path: &str) -> Result<String, FileError> {
        self.0
            .get(path)
            .cloned()
            .ok_or_else(|| FileError { found: "no such file".into(), remedy: "write it".into() })
    }
}

const TEXT: &str = "\
version: 1
router: { identity: gw.json }
zones:
  lan: { interfaces: [lan0] }
  wan: { interfaces: [und0], block: [$bad, 10.9.0.0/16], allow: $good }
sets:
  bad: { addresses: { file: lists/bad.txt } }
  good: { addresses: [192.0.2.7] }
  web: { ports: { file: web.txt } }
rules:
  - { id: web, from: wan, to: lan, source: { not: $bad }, protocol: tcp, destination_ports: $web, action: accept }
";
const BAD: &str =
    "# blocked\r\n\n192.0.2.0/24 # a network\n  2001:db8::/32 ; another\n198.51.100.7";

fn read(text: &str, bad: &str, web: &str) -> Result<Config, Vec<ConfigError>> {
    let files = [("lists/bad.txt", bad.to_owned()), ("web.txt", web.to_owned())];
    parse_with(text, "/etc/nightgate/gw.yaml", &mut Folder(files.into()))
}

fn set(config: &Config, name: &str) -> Set {
    let gateway = config.gateway.as_ref().expect("a gateway");
    gateway.sets[&SetName::new(name).expect("a name")].clone()
}

#[test]
fn a_file_has_an_entry_on_each_line_and_comments() {
    let config = read(TEXT, BAD, "\u{feff}443\n8000 - 8099\n").unwrap();
    let Set::Addresses(bad) = set(&config, "bad") else { panic!("addresses") };
    let bad: Vec<_> = bad.iter().map(Prefix::to_string).collect();
    assert_eq!(bad, ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32"]);
    let ranges = [(443, 443), (8_000, 8_099)].map(|(low, high)| PortRange::new(low, high).unwrap());
    assert_eq!(set(&config, "web"), Set::Ports(ranges.into()));
    assert_eq!(read(TEXT, BAD, "443"), read(TEXT, &BAD.replace('\n', "\r\n"), "#\n443"));
}

#[test]
fn guards_hold_what_their_sets_hold() {
    let gateway = read(TEXT, BAD, "443").unwrap().gateway.unwrap();
    let guard = gateway.zones.values().map(|zone| &zone.guard).find(|g| g.is_asked_for()).unwrap();
    let [block, allow] = guard.prefixes(&gateway.sets).map(|list| list.len());
    assert_eq!((block, allow), (4, 1));
}

#[test]
fn every_error_of_every_file_is_named_at_once_with_file_and_line() {
    let text = TEXT.replace("to: lan", "to: nowhere");
    let errors = read(&text, "10.0.0.1/8\n10.0.0.0/8\nx\n10.0.0.0/8", "0\n443 80\n").unwrap_err();
    let found: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        ("/etc/nightgate/gw.yaml:11: rules[0].to: ", "add it under zones"),
        ("/etc/nightgate/lists/bad.txt:1: sets.bad.addresses: ", "write 10.0.0.0/8"),
        ("/etc/nightgate/lists/bad.txt:3: sets.bad.addresses: the text \"x\"", "single address"),
        ("/etc/nightgate/lists/bad.txt:4: sets.bad.addresses: ", "again, first on line 2"),
        ("/etc/nightgate/web.txt:1: sets.web.ports: ", "write 443"),
        ("/etc/nightgate/web.txt:2: sets.web.ports: ", "1 to 65535"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (start, part)) in found.iter().zip(expected) {
        assert!(found.starts_with(start) && found.contains(part), "{found}");
    }
}

#[test]
fn a_file_that_is_missing_empty_or_not_named_well_is_an_error() {
    let one = |text: &str, bad: &str| -> ConfigError {
        let mut errors = read(text, bad, "443").unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        errors.remove(0)
    };
    let missing = one(&TEXT.replace("lists/bad.txt", "gone.txt"), BAD);
    assert_eq!((missing.line, &*missing.path), (7, "sets.bad.addresses.file"));
    assert!(missing.to_string().contains("gone.txt: no such file"), "{missing}");
    for empty in ["", "# nothing\n\n"] {
        let error = one(TEXT, empty);
        assert!(error.file.ends_with("bad.txt") && error.found == "no entry", "{error}");
    }
    let other_key = read(&TEXT.replace("{ file: lists/", "{ path: lists/"), BAD, "443");
    let other_key: Vec<_> = other_key.unwrap_err().into_iter().map(|error| error.path).collect();
    assert_eq!(other_key, ["sets.bad.addresses.file", "sets.bad.addresses.path"]);
    let without_files = parse(TEXT, "gw.yaml").unwrap_err();
    assert_eq!(without_files.len(), 2, "{without_files:#?}");
}

#[test]
fn a_file_of_garbage_is_not_listed_line_by_line() {
    let garbage = "garbage\n".repeat(1_000);
    let errors = read(TEXT, &garbage, "443").unwrap_err();
    assert_eq!(errors.len(), 51);
    let last = errors.last().unwrap();
    assert_eq!((last.line, &*last.found), (51, "950 lines with errors from here on"));
    let long = read(TEXT, &"\u{1f600}".repeat(1_000), "443").unwrap_err();
    assert!(long[0].to_string().len() < 600, "{}", long[0]);
}

#[test]
fn what_a_guard_both_blocks_and_allows_by_sets_is_an_error() {
    for (bad, part) in [
        ("192.0.2.7\n", "192.0.2.7/32, which"),
        ("192.0.2.7\n10.8.0.1", "10.8.0.1/32 and 1 more, which"),
    ] {
        let text = TEXT.replace("[192.0.2.7]", "[192.0.2.7, 10.8.0.1]");
        let errors = read(&text, bad, "443").unwrap_err();
        let [error] = &errors[..] else { panic!("{errors:#?}") };
        assert_eq!((error.line, &*error.path), (5, "zones.wan.allow"));
        assert!(error.found.starts_with(part), "{error}");
    }
    for (list, part) in
        [("$worse", "under sets"), ("$web", "something else"), ("{ not: $bad }", "")]
    {
        let errors = read(&TEXT.replace("allow: $good", &format!("allow: {list}")), BAD, "443");
        let errors = errors.unwrap_err();
        assert_eq!((errors.len(), &*errors[0].path), (1, "zones.wan.allow"), "{errors:#?}");
        assert!(errors[0].to_string().contains(part), "{errors:#?}");
    }
}

proptest! {
    /// A file says what its entries say by themselves, wherever comments and blanks are.
    #[test]
    fn a_file_means_what_its_entries_mean(
        entries in prop::collection::btree_set((any::<u32>(), 0_u8..=32), 1..40),
        blanks in prop::collection::vec("[ \t]{0,3}(#[^\n\r]{0,9})?\n", 40),
    ) {
        let prefix = |(bits, length): &(u32, u8)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv4Addr::from(bits & mask))
        };
        let entries: std::collections::BTreeSet<String> = entries.iter().map(prefix).collect();
        let lines = entries.iter().zip(&blanks);
        let file: String = lines.map(|(entry, blank)| format!(" {entry} {blank}{blank}")).collect();
        let text = TEXT.replace(", allow: $good", "");
        let Set::Addresses(found) = set(&read(&text, &file, "443").unwrap(), "bad") else {
            panic!("addresses")
        };
        prop_assert_eq!(found.iter().map(Prefix::to_string).collect::<Vec<_>>(), entries.into_iter().collect::<Vec<_>>());
    }

    /// Any bytes are entries, or errors with their lines.
    #[test]
    fn any_file_is_understood_or_refused(file in "[0-9a-f:./# ;\\-\n\r$\u{e4}]{0,80}") {
        for file in [(&*file, "443"), (BAD, &*file)] {
            if let Err(errors) = read(TEXT, file.0, file.1) {
                prop_assert!(!errors.is_empty());
                for error in errors {
                    prop_assert!(error.line >= 1 && !error.remedy.is_empty(), "{}", error);
                }
            }
        }
    }
}
