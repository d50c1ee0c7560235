//! Where flow records go.

use std::time::Duration;

use nightgate_config::{
    FlowRecords, HttpCollector, PacketFiles, RecordFile, Syslog, SyslogServer, parse,
};

const HEAD: &str =
    "version: 1\nrouter: { identity: gw.json }\nzones: { lan: { interfaces: [lan0] } }\n";

#[test]
fn flow_records_are_read_with_their_defaults() {
    let records = |text: &str| {
        let config = parse(&format!("{HEAD}telemetry:\n  flows: {text}\n"), "test").unwrap();
        config.gateway.unwrap().telemetry.flows.unwrap()
    };
    let file = RecordFile { path: "/var/log/f.jsonl".into(), size: 64 << 20, files: 5 };
    let none = FlowRecords { interim: None, file: None, syslog: None, http: None };
    let expected = FlowRecords { file: Some(file), ..none.clone() };
    assert_eq!(records("{ file: { path: /var/log/f.jsonl } }"), expected);
    let file = RecordFile { path: "/f".into(), size: 4_096, files: 1 };
    let interim = Some(Duration::from_secs(300));
    let expected = FlowRecords { interim, file: Some(file), ..none.clone() };
    assert_eq!(records("{ interim: 5m, file: { path: /f, size: 4096, files: 1 } }"), expected);
    let syslog = |server, facility| Some(Syslog { server, facility });
    let udp = SyslogServer::Udp("[2001:db8::1]:514".parse().unwrap());
    let expected = FlowRecords { syslog: syslog(udp, 16), ..none.clone() };
    assert_eq!(records("{ syslog: { udp: '[2001:db8::1]:514' } }"), expected);
    let unix = SyslogServer::Unix("/dev/log".into());
    let expected = FlowRecords { syslog: syslog(unix, 3), ..none.clone() };
    assert_eq!(records("{ syslog: { unix: /dev/log, facility: 3 } }"), expected);
    let http = HttpCollector {
        url: "https://logs.example/flows".into(),
        token_file: Some("/t".into()),
        ca_file: None,
    };
    let expected = FlowRecords { http: Some(http), ..none };
    assert_eq!(
        records("{ http: { url: 'https://logs.example/flows', token_file: /t } }"),
        expected
    );
}

#[test]
fn capture_files_are_those_of_an_interface() {
    let text = format!(
        "{HEAD}telemetry: {{ packets: {{ interface: cap0, path: /c.pcapng, listen: '[::1]:9' }} }}\n"
    );
    let telemetry = parse(&text, "test").unwrap().gateway.unwrap().telemetry;
    let packets = telemetry.packets.unwrap();
    assert_eq!(packets.interface.as_str(), "cap0");
    assert_eq!(packets.listen, "[::1]:9".parse().ok());
    let PacketFiles { path, size, files, .. } = packets;
    assert_eq!((path, size, files), ("/c.pcapng".into(), 64 << 20, 5));
    assert_eq!(telemetry.flows, None);
}

#[test]
fn everything_wrong_is_reported_with_its_place() {
    let found = |text: &str| -> Vec<(String, u32)> {
        let errors = parse(&format!("{HEAD}{text}"), "test").unwrap_err();
        errors.into_iter().map(|error| (error.path, error.line)).collect()
    };
    let text = "telemetry:
  flows:
    interim: 9s
    file: { path: flows.jsonl, size: 4095, files: 0, keep: 3 }
    syslog: { udp: '10.0.0.1:514', tcp: '10.0.0.1:514' }
    http: { url: 'ftp://x' }
  packets: { interface: a/b, path: x }
  frames: true
";
    let expected = [
        ("telemetry.flows.interim", 6),
        ("telemetry.flows.file.path", 7),
        ("telemetry.flows.file.size", 7),
        ("telemetry.flows.file.files", 7),
        ("telemetry.flows.file.keep", 7),
        ("telemetry.flows.syslog", 8),
        ("telemetry.flows.http.url", 9),
        ("telemetry.packets.interface", 10),
        ("telemetry.packets.path", 10),
        ("telemetry.frames", 11),
    ];
    assert_eq!(found(text), expected.map(|(path, line)| (path.to_owned(), line)));
    assert_eq!(found("telemetry: { flows: {} }\n"), [("telemetry.flows".to_owned(), 4)]);
    assert_eq!(found("telemetry: {}\n"), [("telemetry".to_owned(), 4)]);

    let plain =
        "version: 1\nrouter: { identity: r.json }\ntelemetry: { flows: { file: { path: /f } } }\n";
    let errors = parse(plain, "test").unwrap_err();
    assert_eq!((errors[0].path.as_str(), errors[0].line), ("telemetry", 3));
}
