//! Records of flows, their schema in `docs/flow-record.schema.json` and their table in `docs/flow-records.md` agree.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use nightgate_abi::{Address, Flow, FlowKey, flow::Phase};
use nightgate_mirror::flow::{
    DnsAsked, DnsQuery, DropSummary, EndReason, EventType, FlowCounts, FlowId, FlowRecord,
    FlowState, Nat, ProcessSummary, TcpSummary, TlsClient, Verdict, schema,
};
use serde_json::{Value, json};

/// What stands before and after the tables.
const MARKS: [&str; 2] =
    ["<!-- fields: mirror/src/flow/record.rs -->\n", "<!-- end of fields -->\n"];

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

#[test]
fn the_schema_is_that_of_the_types() {
    let path = document("flow-record.schema.json");
    let expected = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} does not say what the types say; it should hold\n{expected}",
        path.display()
    );
}

#[test]
fn every_field_is_documented() {
    let path = document("flow-records.md");
    let text = fs::read_to_string(&path).unwrap();
    let tables = tables();
    let found = text.split_once(MARKS[0]).and_then(|(_, rest)| rest.split_once(MARKS[1]));
    assert_eq!(
        found.map(|(found, _)| found),
        Some(tables.as_str()),
        "{} does not say what the types say; put this between its marks:\n{tables}",
        path.display()
    );
}

#[test]
fn records_are_as_the_schema_says() {
    let validator = jsonschema::validator_for(&Value::from(schema())).unwrap();
    for record in [full(), sparse()] {
        let mut value = serde_json::to_value(record).unwrap();
        assert!(!validator.is_valid(&value), "an output adds `lost`");
        value["lost"] = json!(3);
        let errors: Vec<_> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}\n{value:#}");
        value["flow"]["unknown"] = json!(1);
        assert!(!validator.is_valid(&value));
    }
    let full = serde_json::to_value(full()).unwrap();
    let known = Value::from(schema());
    for field in known["properties"].as_object().unwrap().keys().filter(|key| *key != "lost") {
        assert!(full.get(field).is_some(), "{field} is in no record of this test");
    }
}

fn full() -> FlowRecord {
    let end = |last, port| (Address::from_v4([10, 0, 0, last]), port);
    let (key, _) = FlowKey::new(6, end(1, 40_000), end(2, 80));
    FlowRecord {
        timestamp: "2026-11-22T03:04:05.000006Z".into(),
        event_type: EventType::Flow,
        host: "gw-a".into(),
        flow_id: FlowId::new(&key, &Flow { first_seen: 7, ..Flow::default() }),
        in_iface: Some("lan0".into()),
        src_ip: "10.0.0.1".parse().unwrap(),
        src_port: Some(40_000),
        dest_ip: "2001:db8::2".parse().unwrap(),
        dest_port: Some(80),
        proto: "TCP".into(),
        icmp_type: Some(8),
        icmp_code: Some(0),
        community_id: Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg=".into()),
        src_zone: Some("lan".into()),
        dest_zone: Some("overlay".into()),
        verdict: Verdict::Accept,
        rule: Some("web".into()),
        service: Some("web".into()),
        identity: Some("alice".into()),
        circuit: Some("1f".into()),
        process: Some(ProcessSummary {
            pid: 4_711,
            command: "psql".into(),
            executable: Some("/usr/bin/psql".into()),
            uid: 1_000,
            gid: 100,
            cgroup: Some("/user.slice".into()),
        }),
        mirrored: true,
        nat: Some(Nat {
            src_ip: "192.0.2.1".parse().ok(),
            src_port: Some(1_024),
            dest_ip: None,
            dest_port: None,
        }),
        tcp: Some(TcpSummary {
            tcp_flags: "13".into(),
            tcp_flags_ts: "13".into(),
            tcp_flags_tc: "12".into(),
        }),
        tls: Some(TlsClient {
            sni: Some("web.corp".into()),
            ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1".into(),
        }),
        dns: Some(DnsAsked {
            queries: vec![DnsQuery { rrname: "web.corp".into(), rrtype: "A".into() }],
        }),
        drop: Some(DropSummary {
            reason: "rule".into(),
            hook: "ingress".into(),
            len: 60,
            suppressed: 7,
        }),
        flow: Some(FlowCounts {
            pkts_toserver: Some(4),
            pkts_toclient: Some(3),
            bytes_toserver: 400,
            bytes_toclient: 300,
            start: "2026-11-22T03:04:03.000006Z".into(),
            end: "2026-11-22T03:04:04.500006Z".into(),
            age: 1,
            duration_ms: 1_500,
            state: FlowState::from(Phase::Closed),
            reason: EndReason::EndOfFlow,
        }),
    }
}

fn sparse() -> FlowRecord {
    FlowRecord {
        in_iface: None,
        src_port: None,
        dest_port: None,
        icmp_type: None,
        icmp_code: None,
        src_zone: None,
        dest_zone: None,
        rule: None,
        service: None,
        identity: None,
        circuit: None,
        process: None,
        nat: None,
        tcp: None,
        tls: None,
        dns: None,
        flow: None,
        drop: None,
        community_id: None,
        ..full()
    }
}

fn tables() -> String {
    let schema = Value::from(schema());
    let mut text = format!("\n{}", table(&schema));
    for object in ["dns", "drop", "flow", "nat", "process", "tcp", "tls"] {
        let fields = inner(&schema["properties"][object]);
        let about = fields["description"].as_str().unwrap_or_default();
        write!(text, "\n## `{object}`\n\n{about}\n\n{}", table(fields)).unwrap();
    }
    text.push('\n');
    text
}

/// A description, which wraps where its source does.
fn one_line(text: &Value) -> String {
    text.as_str().unwrap().replace('\n', " ")
}

/// The object of a field that may be absent.
fn inner(value: &Value) -> &Value {
    let alternatives = value["anyOf"].as_array();
    alternatives.map_or(value, |alternatives| &alternatives[0])
}

fn table(object: &Value) -> String {
    format!("| field | value | what it is |\n|---|---|---|\n{}", rows(object, ""))
}

/// The fields of an object, and those of the objects in its lists.
fn rows(object: &Value, prefix: &str) -> String {
    let mut text = String::new();
    for (field, value) in object["properties"].as_object().unwrap() {
        let about = one_line(&value["description"]);
        writeln!(text, "| `{prefix}{field}` | {} | {about} |", kind(value)).unwrap();
        if value["items"]["properties"].is_object() {
            text += &rows(&value["items"], &format!("{prefix}{field}[]."));
        }
    }
    text
}

/// The JSON type of a field, or its words.
fn kind(value: &Value) -> String {
    if let Some(words) = value["oneOf"].as_array() {
        let word = |it: &Value| {
            format!("`{}`: {}", it["const"].as_str().unwrap(), one_line(&it["description"]))
        };
        return words.iter().map(word).collect::<Vec<_>>().join(" ");
    }
    match &inner(value)["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => names[0].as_str().unwrap().to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "any".into(),
    }
}
