//! `nightgate fw explain`: what becomes of a packet, and why.

use std::path::PathBuf;

use nightgate_gateway::{
    admin::{self, Explain, Request},
    report::{ExplainReport, Scope},
};
use serde_json::Value;

use crate::{
    config_file, lint,
    observe::{FLOWS, ObserveArgs},
    output::Table,
};

/// `nightgate fw explain`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PacketArgs {
    /// The packet in words, in quotes: "tcp 10.1.0.5:40000 > 192.0.2.7:443 from lan to wan"
    #[arg(required = true)]
    packet: Vec<String>,
    /// Explain by the rules of this configuration file; needs no root and no running gateway, but both zones
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say of every rule before the one that decides why it does not match, not only of the nearest
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    observe: ObserveArgs,
}

/// How packets are described.
pub(crate) const GRAMMAR: &str = "\
The packet is the first of a flow, in these words, in quotes because of the >:

  PROTOCOL SOURCE > DESTINATION [from ZONE] [to ZONE] [syn] [ack] [fin] [rst] [type N] [code N]
      [dscp N] [mac ADDRESS]

  PROTOCOL     tcp, udp, icmp, icmpv6, gre, esp, ah, ospf, vrrp, igmp or a number
  SOURCE,      with tcp and udp an address and a port, 10.1.0.5:40000 or [2001:db8::5]:40000, where the
  DESTINATION  source may leave its port out; with any other protocol an address
               A running gateway also takes a name of its private DNS as destination: db.corp:5432
  from, to     zones. A running gateway finds them by its routes and intercepts where they are not said;
               with --config both have to be said. Where a rule of address translation gives the packet
               another destination, it is judged by that, and goes to the zone of that
  type, code   of an icmp or icmpv6 message; without a type it is an echo request. An error passes with the
               flow of the packet that it quotes, whatever the rules say
  dscp, mac    code point of differentiated services, and Ethernet address of the sender

Where a running gateway intercepts the packet and finds nothing that refuses it, it dials the service as it would for
the packet, and closes the connection again: what the host says about its server is part of the answer.

  nightgate fw explain \"tcp 10.1.0.5 > 192.0.2.7:443\"
  nightgate fw explain --config gateway.yaml \"udp [2001:db8::5]:5000 > [2001:db8::7]:53 from lan to wan\"";

/// Explains a packet by a file or by the running gateway.
pub(crate) async fn explain(args: &PacketArgs) -> anyhow::Result<()> {
    let packet = args.packet.join(" ");
    let scope = if args.all { Scope::All } else { Scope::Nearest };
    let answer = match &args.config {
        Some(file) => offline(&packet, file, scope)?,
        None => {
            let explain = Explain { packet, scope };
            admin::ask(&args.observe.socket, Request::Explain(explain)).await?
        }
    };
    args.observe.output.print(&answer, text)
}

fn offline(packet: &str, file: &std::path::Path, scope: Scope) -> anyhow::Result<Value> {
    let name = file.display().to_string();
    let (_, parsed) = config_file::read(file, name.clone())?;
    let (_, rules) = lint::compile(parsed, &name)?;
    let report = ExplainReport::new(&rules, &packet.parse()?, scope).map_err(anyhow::Error::msg)?;
    Ok(serde_json::to_value(report)?)
}

fn text(answer: &Value) -> String {
    let word = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let rule = answer["rule"].as_str().map_or_else(String::new, |rule| format!(" by rule {rule}"));
    let mut text = format!("{}\n", word("packet"));
    for step in list(&answer["way"]) {
        text += &format!("{step}\n");
    }
    for (end, key) in [("destination", "redirected"), ("source", "disguised")] {
        if let (Some(becomes), Some(rule)) =
            (answer[key]["becomes"].as_str(), answer[key]["rule"].as_str())
        {
            text += &format!("its {end} becomes {becomes} by rule {rule}\n");
        }
    }
    text += &format!("{}{rule}: {}\n", word("verdict"), word("why"));
    for limit in list(&answer["limits"]) {
        text += &format!("  it may be refused all the same by the limit of {limit}\n");
    }
    if let Some(rule) = answer["counted_by"].as_str() {
        text += &format!("counted by rule {rule} on the way\n");
    }
    if answer["flow"].is_object() {
        let flow = Value::Array(vec![answer["flow"].clone()]);
        text += &format!("\nit belongs to a flow:\n{}\n", FLOWS.table(&flow));
    }
    let passed_over = answer["passed_over"].as_array().cloned().unwrap_or_default();
    if passed_over.is_empty() {
        return text;
    }
    let table = passed_over.iter().fold(Table::new(&["not by", "because"]), |table, rule| {
        table.row([rule["rule"].as_str().unwrap_or_default(), &list(&rule["differs"]).join("; ")])
    });
    text + &format!("\n{table}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_reads_from_packet_to_verdict_to_the_other_rules() {
        let text = text(&serde_json::json!({
            "packet": "tcp 10.1.0.5:49152 > 192.0.2.7:443 from lan to wan",
            "verdict": "drop", "rule": null, "why": "no rule matches", "flow": null,
            "way": ["out by wan0"], "limits": ["rule web: 10/s"],
            "redirected": {"rule": "forward", "becomes": "10.1.0.10:80"}, "disguised": null,
            "passed_over": [{"rule": "dns", "differs": ["to is wan, not local"]}]
        }));
        let lines: Vec<_> = text.lines().collect();
        let expected = [
            "out by wan0",
            "its destination becomes 10.1.0.10:80 by rule forward",
            "drop: no rule matches",
            "  it may be refused all the same by the limit of rule web: 10/s",
        ];
        assert_eq!(lines[1..5], expected);
        assert_eq!(lines[7], "dns     to is wan, not local");
    }

    #[test]
    fn a_file_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gw.yaml");
        let gateway = "version: 1\nrouter: { identity: gw.json }\nzones: { lan: { interfaces: [lan0] } }\nrules:\n  \
            - { id: ssh, from: lan, to: local, protocol: tcp, destination_ports: [22], action: accept }\n";
        std::fs::write(&file, gateway).unwrap();
        let packet = "tcp [2001:db8::5] > [2001:db8::1]:22 from lan to local";
        let answer = offline(packet, &file, Scope::Nearest).unwrap();
        assert_eq!(answer["rule"], "ssh");
        assert!(offline("tcp 10.0.0.1 > 10.0.0.2:1", &file, Scope::All).is_err(), "zones");
    }
}
