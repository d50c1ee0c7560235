//! What becomes of an intercepted packet beyond the kernel: name, service, policy, terminator, path.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use nightgate_fabric::{Passage, Topology};
use nightgate_model::{
    entity::Terminator,
    id::{IdentityId, RouterId},
    replica::Replica,
};

use crate::{
    dns::Found,
    intercept::{InterceptTable, InterceptedService},
};

/// Puts an address in the place of a destination that is a name, as the private DNS answers the packet's source. Returns
/// the packet and what the private DNS did, if it was asked.
///
/// # Errors
/// The private DNS knows no such name for the source.
pub(super) fn resolve(
    packet: &str,
    table: &InterceptTable,
) -> Result<(String, Option<String>), String> {
    let unchanged = || Ok((packet.to_owned(), None));
    let Some((before, behind)) = packet.split_once('>') else { return unchanged() };
    let Some(destination) = behind.split_whitespace().next() else { return unchanged() };
    let (name, port) = match destination.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (destination, None),
    };
    let is_address = destination.parse::<IpAddr>().is_ok()
        || destination.parse::<SocketAddr>().is_ok()
        || !name.contains(|c: char| c.is_ascii_alphabetic())
        || name.contains([':', '[']);
    let source = before.split_whitespace().last().and_then(address);
    let (Some(source), false) = (source, is_address) else { return unchanged() };
    let addresses = match table.names().lookup(name, source, Instant::now()) {
        Found::Addresses(addresses) => addresses,
        // A slip rather than a name: the packet's grammar has more to say about it.
        Found::Nothing if !name.contains('.') => return unchanged(),
        Found::Nothing => {
            return Err(format!(
                "packet: {name}: the private DNS has no such name for {source}: no service that this gateway may dial \
                 has it, or none whose allowedSourceAddresses include the source"
            ));
        }
        Found::Full => {
            return Err(format!(
                "packet: {name}: the private DNS has no address left for it; choose larger dns.range_v4 and range_v6"
            ));
        }
    };
    let (found, written): (IpAddr, String) = if source.is_ipv4() {
        (addresses.v4.into(), addresses.v4.to_string())
    } else {
        (addresses.v6.into(), format!("[{}]", addresses.v6))
    };
    let written = match port {
        Some(port) => format!("{written}:{port}"),
        None => found.to_string(),
    };
    let text = format!("{before}>{}", behind.replacen(destination, &written, 1));
    Ok((
        text,
        Some(format!("the private DNS answers {source} that {name} has the address {found}")),
    ))
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse()).ok()
}

/// What happens to a packet of a service, up to the first thing that refuses it.
pub(super) fn steps(
    service: &InterceptedService,
    source: IpAddr,
    replica: &Replica,
    own: &IdentityId,
) -> Vec<String> {
    let mut steps = Vec::new();
    if !service.sources.allow(source) {
        steps.push(format!(
            "refused: allowedSourceAddresses of service {} do not include {source}",
            service.name
        ));
        return steps;
    }
    let me = replica.identities.get(own).map_or(own.as_str(), |own| own.name.as_str());
    steps.push(format!("identity {me} may dial it, by the policies of the model"));
    if service.early_data {
        steps.push(
            "what a TCP client says first may go with the dial, and may come to the server twice (earlyData of its \
             end-to-end.v1)"
                .to_owned(),
        );
    }
    let hosted = replica.terminators.iter().filter(|terminator| terminator.service == service.id);
    let terminators: Vec<Terminator> =
        hosted.map(|terminator| replica.settled(terminator)).collect();
    if terminators.is_empty() {
        steps.push(format!("refused: nobody hosts service {}", service.name));
        return steps;
    }
    let own = RouterId::new(own.as_str());
    let passages = replica.routers.iter().map(Passage::from);
    let mut topology = Topology::new(&own, replica.links.iter(), passages);
    let reached = terminators.iter().filter_map(|terminator| {
        let path = topology.path(&own, &terminator.router, &[])?;
        Some((terminator, path.cost + u64::from(terminator.cost), path.routers))
    });
    let cheapest = reached.min_by_key(|(terminator, cost, _)| (terminator.precedence, *cost));
    let Some((terminator, cost, path)) = cheapest else {
        let routers = terminators.iter().map(|terminator| router(replica, &terminator.router));
        steps.push(format!(
            "refused: no links lead to {}, where the service is hosted",
            routers.collect::<Vec<_>>().join(" or ")
        ));
        return steps;
    };
    let path: Vec<String> = path.iter().map(|id| router(replica, id)).collect();
    steps.push(format!("goes by {}, cost {cost}", path.join(" > ")));
    let host = replica.identities.get(&terminator.host);
    steps.push(format!(
        "hosted by {} ({} terminators), where its host.v1 decides about the server",
        host.map_or(terminator.host.as_str(), |host| host.name.as_str()),
        terminators.len()
    ));
    steps
}

fn router(replica: &Replica, id: &RouterId) -> String {
    replica.router(id).map_or_else(|| id.as_str().to_owned(), |router| router.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dns::NameTable,
        names::{HostName, NameAddresses},
    };

    #[test]
    fn a_name_becomes_the_address_of_the_sources_family() {
        let addresses =
            NameAddresses { v4: [100, 64, 0, 7].into(), v6: "fd64:6e67::7".parse().unwrap() };
        let names = [(HostName::try_from("db.corp").unwrap(), addresses)];
        let names: NameTable = names.into_iter().collect();
        let table = InterceptTable::new(Default::default(), [], names);
        let resolve = |packet| resolve(packet, &table).map(|(packet, _)| packet);
        for (packet, expected) in [
            ("tcp 10.1.2.3 > db.corp:5432", "tcp 10.1.2.3 > 100.64.0.7:5432"),
            ("tcp 10.1.2.3:9 > DB.corp:5432 from lan", "tcp 10.1.2.3:9 > 100.64.0.7:5432 from lan"),
            ("udp [fd00::1]:9 > db.corp:53", "udp [fd00::1]:9 > [fd64:6e67::7]:53"),
            ("icmp 10.1.2.3 > db.corp type 8", "icmp 10.1.2.3 > 100.64.0.7 type 8"),
            ("tcp 10.1.2.3 > 192.0.2.1:80", "tcp 10.1.2.3 > 192.0.2.1:80"),
            ("tcp fd00::1 > [fd00::abcd]:80", "tcp fd00::1 > [fd00::abcd]:80"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(resolve(packet).as_deref(), Ok(expected));
        }
        let unknown = resolve("tcp 10.1.2.3 > web.corp:80").unwrap_err();
        assert!(unknown.contains("no such name for 10.1.2.3"), "{unknown}");
    }
}
