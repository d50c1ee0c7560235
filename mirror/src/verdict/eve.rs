//! Suricata's event format (EVE, JSON lines; Suricata's user guide, "EVE JSON Format").

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::alert::{Alert, AlertError, Ends, kept, protocol, severity};

/// The fields of an event that matter here.
#[derive(Deserialize)]
struct Event {
    event_type: String,
    #[serde(default)]
    timestamp: String,
    src_ip: Option<IpAddr>,
    #[serde(default)]
    src_port: u16,
    dest_ip: Option<IpAddr>,
    #[serde(default)]
    dest_port: u16,
    proto: Option<String>,
    /// `to_client`: the packet that raised the alert went from server to client (Suricata 6 and later).
    direction: Option<String>,
    alert: Option<EventAlert>,
    flow: Option<EventFlow>,
}

#[derive(Deserialize)]
struct EventAlert {
    #[serde(default)]
    signature_id: u32,
    #[serde(default)]
    signature: String,
    #[serde(default)]
    category: String,
    #[serde(default)]
    severity: u64,
}

/// Who began the flow (Suricata 7 and later).
#[derive(Deserialize)]
struct EventFlow {
    src_ip: Option<IpAddr>,
    dest_ip: Option<IpAddr>,
    src_port: Option<u16>,
    dest_port: Option<u16>,
}

impl Alert {
    /// Reads a line of EVE; `None` for an event that is no alert, or that is about no IP flow.
    ///
    /// # Errors
    /// The line is no event.
    pub fn from_eve(line: &str) -> Result<Option<Self>, AlertError> {
        let event: Event = serde_json::from_str(line)?;
        let (Some(alert), "alert") = (&event.alert, event.event_type.as_str()) else {
            return Ok(None);
        };
        let (Some((client, server)), Some(proto)) = (event.ends(), &event.proto) else {
            return Ok(None);
        };
        Ok(Some(Self {
            at: kept(&event.timestamp),
            signature_id: alert.signature_id,
            signature: kept(&alert.signature),
            category: kept(&alert.category),
            severity: severity(alert.severity),
            ends: Ends { protocol: protocol(proto)?, client, server },
        }))
    }
}

impl Event {
    /// Who began the flow, and the other end.
    fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        if let Some(flow) = &self.flow
            && let (Some(client), Some(server)) = (flow.src_ip, flow.dest_ip)
        {
            let [from, to] = [flow.src_port, flow.dest_port].map(Option::unwrap_or_default);
            return Some((SocketAddr::new(client, from), SocketAddr::new(server, to)));
        }
        let source = SocketAddr::new(self.src_ip?, self.src_port);
        let destination = SocketAddr::new(self.dest_ip?, self.dest_port);
        let is_answer = self.direction.as_deref() == Some("to_client");
        Some(if is_answer { (destination, source) } else { (source, destination) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Suricata 7.0.10 writes it.
    const ALERT: &str = r#"{"timestamp":"2026-11-21T16:40:01.000001+0000","flow_id":1,"in_iface":"eth0",
        "event_type":"alert","vlan":[42],"src_ip":"10.1.0.2","src_port":41000,"dest_ip":"10.77.0.1","dest_port":80,
        "proto":"TCP","pkt_src":"wire/pcap","tx_id":0,"alert":{"action":"allowed","gid":1,"signature_id":1000001,
        "rev":1,"signature":"uri","category":"Attempted Information Leak","severity":2},"app_proto":"http",
        "direction":"to_server","flow":{"pkts_toserver":3,"src_ip":"10.1.0.2","dest_ip":"10.77.0.1","src_port":41000,
        "dest_port":80}}"#;

    #[test]
    fn an_alert_of_suricata_is_read() {
        let alert = Alert::from_eve(ALERT).unwrap().unwrap();
        let expected = Alert {
            at: "2026-11-21T16:40:01.000001+0000".into(),
            signature_id: 1_000_001,
            signature: "uri".into(),
            category: "Attempted Information Leak".into(),
            severity: 2,
            ends: Ends {
                protocol: 6,
                client: "10.1.0.2:41000".parse().unwrap(),
                server: "10.77.0.1:80".parse().unwrap(),
            },
        };
        assert_eq!(alert, expected);
    }

    #[test]
    fn an_alert_about_an_answer_is_about_the_one_who_asked() {
        let answer = r#"{"event_type":"alert","src_ip":"fd77::1","src_port":80,"dest_ip":"fd01::2","dest_port":4,
            "proto":"TCP","direction":"to_client","alert":{"severity":1}}"#;
        let alert = Alert::from_eve(answer).unwrap().unwrap();
        assert_eq!(alert.ends.client, "[fd01::2]:4".parse().unwrap());
        let older = answer.replace(r#""direction":"to_client","#, "");
        let alert = Alert::from_eve(&older).unwrap().unwrap();
        assert_eq!(alert.ends.client, "[fd77::1]:80".parse().unwrap(), "as good as it gets");
    }

    #[test]
    fn other_events_are_passed_over_and_other_texts_refused() {
        for other in [
            r#"{"event_type":"stats"}"#,
            r#"{"event_type":"http","src_ip":"10.1.0.2"}"#,
            r#"{"event_type":"alert","alert":{"severity":1}}"#,
        ] {
            assert_eq!(Alert::from_eve(other).unwrap(), None, "{other}");
        }
        let odd = ALERT.replace("\"TCP\"", "\"what\"");
        for wrong in ["", "{}", "[1]", "{\"event_type\":\"alert\",\"alert\":7}", odd.as_str()] {
            assert!(Alert::from_eve(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_outsiders_write_does_not_reach_the_terminal() {
        let long = format!("\\u001b[2J{}", "x".repeat(10_000));
        let alert = Alert::from_eve(&ALERT.replace("\"uri\"", &format!("\"{long}\""))).unwrap();
        let signature = alert.unwrap().signature;
        assert!(signature.starts_with("[2Jx") && signature.len() == 512);
    }

    proptest! {
        #[test]
        fn any_text_is_an_event_or_an_error(text: String) {
            drop(Alert::from_eve(&text));
        }
    }
}
