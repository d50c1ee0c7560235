//! Capture files of what is copied, with what is known of each frame's flow: the program's as well.

use nightgate_config::PacketFiles;
use nightgate_export::{Capture, CaptureError};
use nightgate_gateway::capture::comment;

use crate::flows::{FlowReport, Flows};

/// Begins to write capture files. `identity` dials and hosts.
///
/// # Errors
/// The interface is not there, or may not be looked at.
pub(crate) fn start(
    packets: &PacketFiles,
    (flows, identity): (&Flows, String),
) -> Result<Capture, CaptureError> {
    flows.linger(move |flow| words(flow, &identity));
    let (flows, metrics) = (flows.clone(), flows.metrics().clone());
    let describe = move |frame: &[u8]| {
        comment(frame, |flow| flows.find((flow.protocol, [flow.source, flow.destination])))
    };
    Capture::start(packets, Box::new(describe), &metrics)
}

/// `service=web identity=laptop pid=4711 uid=1000 executable=/usr/bin/curl`: of what is hosted, who dials, and no program.
fn words(flow: &FlowReport, own: &str) -> String {
    let service = &flow.service;
    let identity = flow.dialer.as_deref().unwrap_or(own);
    let mut words = format!("service={service} identity={identity}");
    if let Some(process) = &flow.process {
        words += &format!(" pid={} uid={}", process.pid, process.user);
        if let Some(executable) = &process.executable {
            words += &format!(" executable={}", one_word(executable));
        }
    }
    words
}

/// A path without what would end the word: a program chooses its own, and could pass for another with it.
fn one_word(path: &str) -> String {
    let ends = |c: char| c.is_whitespace() || c.is_control();
    path.chars().map(|c| if ends(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use nightgate_model::configs::Protocol;

    use super::*;
    use crate::process::Process;

    fn flow(dialer: Option<&str>, executable: Option<&str>) -> FlowReport {
        let process = Process {
            pid: 4_711,
            command: "curl".to_owned(),
            executable: executable.map(str::to_owned),
            user: 1_000,
            group: 100,
            cgroup: None,
        };
        let [source, destination] =
            ["10.5.0.1:40000", "10.9.0.9:80"].map(|end| end.parse().unwrap());
        FlowReport {
            protocol: Protocol::Tcp,
            source,
            destination,
            name: None,
            service: "web".to_owned(),
            dialer: dialer.map(str::to_owned),
            process: dialer.is_none().then_some(process),
            age: 0,
            sent: 0,
            received: 0,
        }
    }

    #[test]
    fn a_flow_is_its_program_s_or_its_dialer_s() {
        for (flow, expected) in [
            (
                flow(None, Some("/usr/bin/curl")),
                "service=web identity=laptop pid=4711 uid=1000 executable=/usr/bin/curl",
            ),
            (flow(None, None), "service=web identity=laptop pid=4711 uid=1000"),
            (
                flow(None, Some("/tmp/x uid=0\n")),
                "service=web identity=laptop pid=4711 uid=1000 executable=/tmp/x\u{fffd}uid=0\u{fffd}",
            ),
            (flow(Some("phone"), None), "service=web identity=phone"),
        ] {
            assert_eq!(words(&flow, "laptop"), expected);
        }
    }
}
