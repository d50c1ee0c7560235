//! Explains packets by what the running gateway knows: rules, routes, intercepts and flows.

mod overlay;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use nightgate_datapath::IfIndex;
use nightgate_model::{configs::Protocol, id::IdentityId, replica::Replica};
use nightgate_netlink::{InterfaceIndex, Netlink, Passenger, Way};
use nightgate_packet::protocol;
use nightgate_ruleset::{Description, ZoneName, without_rules};
use tokio::time::timeout;

use crate::{
    admin::Explain,
    clock::Clock,
    firewall::Firewall,
    intercept::{InterceptTable, InterceptedService},
    interceptor::Interceptor,
    report::ExplainReport,
};

/// A dial that would show whether the host reaches its server.
pub(super) struct Trial {
    service: InterceptedService,
    protocol: Protocol,
    ends: [SocketAddr; 2],
}

/// How long a trial may take; its operator waits for it.
const TRIAL: Duration = Duration::from_secs(10);

impl Trial {
    /// Dials as the gateway does for the packet, and hangs up; what came of it.
    pub(super) async fn step(self, interceptor: &Interceptor) -> String {
        let Self { service, protocol, ends } = self;
        let started = Instant::now();
        let opening = timeout(TRIAL, interceptor.open(&service, protocol, ends, None));
        match opening.await {
            Ok(Ok(_circuit)) => {
                let took = started.elapsed().as_millis();
                format!("the host has its server: a trial connection stood after {took} ms")
            }
            Ok(Err(error)) => format!("refused: a trial connection: {error}"),
            Err(_elapsed) => {
                format!("refused: a trial connection: no answer within {} s", TRIAL.as_secs())
            }
        }
    }
}

/// Explains a packet. Zones that are not said are found as the kernel programs find them. What is intercepted and not
/// refused so far may be tried.
pub(super) async fn explain(
    firewall: &Firewall,
    table: &InterceptTable,
    clock: &Clock,
    (replica, own): (&Replica, &IdentityId),
    question: &Explain,
) -> Result<(ExplainReport, Option<Trial>), String> {
    let (text, answer) = overlay::resolve(&question.packet, table)?;
    let mut packet: Description = text.parse().map_err(|error| format!("{error}"))?;
    let mut guide = Guide {
        firewall,
        netlink: Netlink::connect().map_err(|error| error.to_string())?,
        steps: answer.into_iter().collect(),
    };
    let rules = &firewall.rules;
    let source = packet.packet.source.to_ip();
    let input = guide.origin(&mut packet.from, source).await?;
    let from = packet.from.as_ref().and_then(|name| rules.zones().get(name)).copied();
    let is_judged = from.is_none_or(|from| without_rules(rules, from, &packet.packet).is_none());
    let destination = packet.packet.destination.to_ip();
    let destination = SocketAddr::new(destination, packet.packet.destination_port);
    let service = input.and_then(|_| table.service_of(packet.packet.protocol, destination));
    let redirected = from
        .filter(|_| input.is_some() && service.is_none())
        .and_then(|from| rules.nat().redirect(from, &packet.packet));
    // The flow tables know flows by the destination that they have inside, and routes are looked up for it.
    let inside = redirected.map_or(packet.packet, |(_, redirected)| redirected);
    if packet.to.is_none() && is_judged {
        packet.to = Some(match service {
            Some(service) => {
                guide.steps.push(format!("intercepted for service {}", service.name));
                guide.steps.extend(overlay::steps(service, source, replica, own));
                ZoneName::overlay()
            }
            None => guide.destination([source, inside.destination.to_ip()], input).await?,
        });
    }
    let mut report = ExplainReport::new(rules, &packet, question.scope)?;
    report.way = guide.steps;
    let is_refused = report.way.iter().any(|step| step.starts_with("refused"));
    let protocol = match packet.packet.protocol {
        protocol::TCP => Some(Protocol::Tcp),
        protocol::UDP => Some(Protocol::Udp),
        _ => None,
    };
    let trial = service.zip(protocol).filter(|_| report.is_accepted() && !is_refused);
    let trial = trial.map(|(service, protocol)| {
        let client = SocketAddr::new(source, packet.packet.source_port);
        Trial { service: service.clone(), protocol, ends: [client, destination] }
    });
    if is_judged {
        let flow = firewall.flow_of(&inside, table, clock);
        report.flow = flow.map_err(|error| error.to_string())?;
    }
    Ok((report, trial))
}

/// Finds the way of one packet, and writes it down.
struct Guide<'a> {
    firewall: &'a Firewall,
    netlink: Netlink,
    steps: Vec<String>,
}

impl Guide<'_> {
    /// The interface a packet comes in by, `None` if the gateway itself sends it; its zone is filled in.
    async fn origin(
        &mut self,
        zone: &mut Option<ZoneName>,
        source: IpAddr,
    ) -> Result<Option<InterfaceIndex>, String> {
        if *zone == Some(ZoneName::local()) {
            return Ok(None);
        }
        let towards = Passenger { source: None, destination: source, input: None };
        let way = self.netlink.way(towards).await.map_err(|error| error.to_string())?;
        let routed = match (way, &zone) {
            (Way::Local, None) => {
                *zone = Some(ZoneName::local());
                return Ok(None);
            }
            (Way::By(index), None) => {
                let (name, found) = self.interface(index)?;
                self.steps.push(format!("comes in by {name}, as the route to {source} says"));
                *zone = Some(found);
                return Ok(Some(index));
            }
            (Way::Nowhere(why), None) => {
                return Err(format!("packet: no route to {source} ({why}); say `from ZONE`"));
            }
            (Way::By(index), Some(_)) => Some(index),
            (Way::Local | Way::Nowhere(_), Some(_)) => None,
        };
        let own: Vec<(IfIndex, String)> = self
            .firewall
            .datapath
            .interfaces()
            .filter(|(_, _, of)| Some(*of) == zone.as_ref())
            .map(|(index, name, _)| (index, name.to_owned()))
            .collect();
        let by_route = own
            .iter()
            .find(|(index, _)| routed.is_some_and(|routed| routed.value() == index.get()));
        let Some((index, name)) = by_route.or_else(|| own.first()) else {
            let zone = zone.as_ref().map(ToString::to_string).unwrap_or_default();
            return Err(format!("packet: from {zone}: no interface is in that zone"));
        };
        self.steps.push(format!("comes in by {name}"));
        Ok(InterfaceIndex::new(index.get()))
    }

    /// The zone a packet goes to that is not intercepted.
    async fn destination(
        &mut self,
        [source, destination]: [IpAddr; 2],
        input: Option<InterfaceIndex>,
    ) -> Result<ZoneName, String> {
        let packet = Passenger { source: Some(source), destination, input };
        match self.netlink.way(packet).await.map_err(|error| error.to_string())? {
            Way::Local => {
                self.steps.push("is for the gateway itself".into());
                Ok(ZoneName::local())
            }
            Way::By(index) => {
                let (name, zone) = self.interface(index)?;
                self.steps.push(format!("leaves by {name}, as the route to {destination} says"));
                Ok(zone)
            }
            Way::Nowhere(why) => Err(format!(
                "packet: from {source} to {destination}: refused without asking a rule: no route ({why})"
            )),
        }
    }

    fn interface(&self, index: InterfaceIndex) -> Result<(String, ZoneName), String> {
        let mut interfaces = self.firewall.datapath.interfaces();
        interfaces
            .find(|(attached, ..)| attached.get() == index.value())
            .map(|(_, name, zone)| (name.to_owned(), zone.clone()))
            .ok_or_else(|| {
                format!(
                    "packet: its route goes by interface {index}, which is in no zone: what the gateway itself \
                     sends there passes unjudged, everything else is refused"
                )
            })
    }
}
