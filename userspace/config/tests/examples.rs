//! Every shipped example parses, and no key of it can be mistyped unnoticed.

use std::{collections::BTreeSet, fs, path::PathBuf};

use nightgate_config::{Action, Answer, NewSource, parse};
use serde_json::Value;

#[test]
fn every_shipped_example_parses() {
    let examples = examples();
    assert!(examples.len() >= 2, "{examples:?}");
    for (name, text) in examples {
        parse(&text, &name).unwrap_or_else(|errors| panic!("{errors:#?}"));
    }
}

#[test]
fn gateway_example_means_what_it_says() {
    let (name, text) = example("gateway.yaml");
    let gateway = parse(&text, &name).unwrap().gateway.unwrap();
    assert_eq!(gateway.zones.keys().map(|zone| zone.as_str()).collect::<Vec<_>>(), ["lan", "wan"]);
    assert_eq!(gateway.rules[4].id.as_str(), "no-smtp");
    assert_eq!(gateway.rules[4].action, Action::Reject(Answer::Fitting));
    let ports = gateway.rules[5].destination_port_members.as_ref().expect("a set");
    let ports: Vec<_> = ports.members(&gateway.sets).map(ToString::to_string).collect();
    assert_eq!(ports, ["80", "443", "8000-8099"]);
    assert_eq!(gateway.nat.one_to_one[0].outside.to_string(), "203.0.113.16/28");
    assert_eq!(gateway.nat.destination[0].id.as_str(), "forward-web");
    assert_eq!(gateway.nat.source[2].becomes, NewSource::Masquerade { ports: None });
    let dns = gateway.dns.unwrap();
    assert_eq!(dns.range_v4.to_string(), "100.64.0.0/10");
    assert_eq!((dns.clients.len(), dns.upstreams.len()), (2, 2));
    assert_eq!(dns.domains[0].domain, "corp.example");
    assert!(dns.domains[1].upstreams.is_empty());
    assert_eq!(gateway.mirror.unwrap().sessions[0].vni, Some(42));
}

#[test]
fn router_example_is_no_gateway() {
    let (name, text) = example("router.yaml");
    let config = parse(&text, &name).unwrap();
    assert_eq!(config.gateway, None);
    assert_eq!(config.router.advertise.unwrap().to_string(), "router.example:443");
}

/// The worked example of the guide for those who come from zfw.
#[test]
fn the_migration_guide_shows_a_good_file() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/from-zfw.md");
    let guide = fs::read_to_string(path).unwrap();
    let (_, rest) = guide.split_once("```yaml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let gateway = parse(text, "from-zfw.md").unwrap().gateway.unwrap();
    assert_eq!(gateway.rules.len(), 10);
}

/// Puts a bogus key into every map of every example in turn; each has to be found, and be the only error. What the error
/// says to expect are the keys that are read there: each has to stand in the guide.
#[test]
fn an_unknown_key_is_refused_at_every_level_and_every_known_one_stands_in_the_guide() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateway.md");
    let guide = fs::read_to_string(path).unwrap();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let guide: BTreeSet<&str> = guide.split(|c| !is_word(c)).collect();
    let mut count = 0;
    for (name, text) in examples() {
        let document: Value = serde_saphyr::from_str(&text).unwrap();
        for pointer in maps(&document) {
            let mut mutated = document.clone();
            let map = mutated.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
            map.insert("bogus".into(), 1.into());
            // JSON is YAML.
            let errors = parse(&mutated.to_string(), &name).expect_err(&pointer);
            let [error] = &errors[..] else { panic!("{pointer}: {errors:#?}") };
            assert!(error.path.ends_with("bogus"), "{pointer}: {error}");
            let known = error.expected.strip_prefix("one of ").unwrap_or_default().split(", ");
            for key in known.filter(|key| key.chars().all(is_word)) {
                assert!(key.is_empty() || guide.contains(key), "{pointer}/{key} is not explained");
            }
            count += 1;
        }
    }
    assert!(count >= 30, "{count} maps");
}

/// JSON pointers of all maps in a document.
fn maps(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(entries) => entries.iter().map(|(key, v)| (key.clone(), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let own = value.is_object().then(String::new);
    let inner = children.into_iter().flat_map(|(step, child)| {
        maps(child).into_iter().map(move |pointer| format!("/{step}{pointer}"))
    });
    own.into_iter().chain(inner).collect()
}

fn example(name: &str) -> (String, String) {
    examples().into_iter().find(|(candidate, _)| candidate == name).expect(name)
}

fn examples() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    fs::read_dir(folder)
        .expect("the examples' folder")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("a text"))
        })
        .collect()
}
