//! Hosting: connects circuits that arrive for services which the identity may host to their servers, which this host
//! reaches. No port is opened for it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use nightgate_gateway::{
    carry::reset,
    hosting::{
        self, Connection, Host, HostedService, HostedTerminator, Hosting, InstanceSecret,
        MAX_CIRCUITS, Prober, Standing, UDP_IDLE, readable, receive, watch_health,
    },
    intercept::Encryption,
    sight::Sight,
};
use nightgate_mirror::flow::EndReason;
use nightgate_model::configs::{ConfigShapeError, Protocol};
use nightgate_sdk::{
    BindOptions, Context, FailureCause, Messages, Offer, Offers, Permission, Service, Stream,
};
use nightgate_telemetry::{End, Metrics};
use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info, warn};

use crate::{
    copying::Copying,
    flows::{Counts, FlowReport, Flows},
    tcp::Counted,
};

/// Wait before a service is bound anew that could not be.
const RETRY: Duration = Duration::from_secs(2);

/// What the identity may host, hosted. Dropping it ends the hosting and every circuit of it.
#[derive(Debug)]
pub(crate) struct OwnHosting {
    context: Context,
    hosting: Hosting<EdgeHost>,
    /// Problems that the log knows already.
    logged: BTreeSet<String>,
}

/// Hosts at the edge routers that the controller names.
#[derive(Clone, Debug)]
struct EdgeHost {
    context: Context,
    prober: Prober,
    slots: Arc<Semaphore>,
    metrics: Metrics,
    flows: Flows,
    /// Shown for terminators with an instance name.
    secret: InstanceSecret,
    copying: Copying,
}

impl OwnHosting {
    /// Hosts nothing yet.
    pub(crate) fn new(
        context: Context,
        (metrics, flows): (Metrics, Flows),
        (secret, copying): (InstanceSecret, Copying),
    ) -> Self {
        let slots = Arc::new(Semaphore::new(MAX_CIRCUITS));
        let prober = Prober::new();
        let known = context.clone();
        let host = EdgeHost { context: known, prober, slots, metrics, flows, secret, copying };
        Self { context, hosting: Hosting::with(host), logged: BTreeSet::new() }
    }

    /// Hosts those of `services` that the identity may host, and no others. One that did not change keeps its circuits;
    /// those of another end.
    pub(crate) fn apply(&mut self, services: &[Service]) {
        let (wanted, problems) = hosted_services(services, &self.context.identity_name());
        let problems: BTreeSet<_> = problems.iter().map(ConfigShapeError::to_string).collect();
        for problem in problems.difference(&self.logged) {
            warn!(problem, "a service is not hosted");
        }
        self.logged = problems;
        self.hosting.apply(wanted);
    }
}

/// What may be hosted and has servers, and what cannot be read.
fn hosted_services(
    services: &[Service],
    own_name: &str,
) -> (Vec<HostedService>, Vec<ConfigShapeError>) {
    let bindable = services.iter().filter(|it| it.permissions.contains(&Permission::Bind));
    readable(bindable.map(|Service { id, name, config, encryption_required, .. }| {
        let encryption = Encryption::by(config, *encryption_required);
        HostedService::read((id, name), config, encryption, own_name)
    }))
}

impl Host for EdgeHost {
    async fn serve(self, service: Arc<HostedService>, terminator: Arc<HostedTerminator>) {
        // All end with this task, and so with the service's hosting.
        let mut circuits = JoinSet::new();
        let (mut standing, _checks) = watch_health(&self.prober, &service.name, &terminator.host);
        let offers = self.bind(&service, &terminator, *standing.borrow_and_update());
        let mut offers = offers.await;
        info!(service = %service.name, server = %terminator.host, "hosting begins");
        loop {
            tokio::select! {
                Some(_ended) = circuits.join_next() => {}
                offer = offers.next() => {
                    let (service, terminator) = (Arc::clone(&service), Arc::clone(&terminator));
                    circuits.spawn(self.clone().take(offer, service, terminator));
                }
                Ok(()) = standing.changed() => {
                    let Standing { precedence, cost } = *standing.borrow_and_update();
                    offers.update(precedence, cost);
                }
            }
        }
    }
}

impl EdgeHost {
    /// Binds a terminator, however long that takes.
    async fn bind(
        &self,
        service: &HostedService,
        terminator: &HostedTerminator,
        Standing { precedence, cost }: Standing,
    ) -> Offers {
        loop {
            let instance = Some(terminator.instance.clone()).filter(|name| !name.is_empty());
            let secret = match instance {
                Some(_) => Bytes::copy_from_slice(self.secret.bytes()),
                None => Bytes::new(),
            };
            let max_routers = terminator.host.listen.max_connections;
            let options = BindOptions {
                instance,
                secret,
                precedence,
                cost,
                max_routers,
                ..BindOptions::default()
            };
            match self.context.bind_offers(&service.name, options).await {
                Ok(offers) => return offers,
                Err(error) => warn!(
                    service = %service.name,
                    error = &error as &dyn std::error::Error,
                    "not hosted; it is tried again"
                ),
            }
            sleep(RETRY).await;
        }
    }

    async fn take(
        self,
        offer: Offer,
        service: Arc<HostedService>,
        terminator: Arc<HostedTerminator>,
    ) {
        let dialer = offer.caller().name.clone();
        let socket = self.copying.socket(&service.id, &dialer);
        let service = &service.name;
        let refused = |cause: FailureCause, detail: &str| {
            self.metrics.circuit_refused(End::Host, cause.as_str());
            info!(service, dialer, cause = cause.as_str(), detail, "circuit refused");
        };
        let Ok(_slot) = self.slots.try_acquire() else {
            let (cause, detail) = (FailureCause::Capacity, hosting::FULL);
            refused(cause, detail);
            return offer.refuse(cause, detail);
        };
        let connection =
            match Connection::open(&terminator.host, &offer.caller().app_data, socket).await {
                Ok(connection) => connection,
                Err(error) => {
                    let (cause, detail) = (error.cause(), error.to_string());
                    refused(cause, &detail);
                    return offer.refuse(cause, &detail);
                }
            };
        let stream = match offer.accept().await {
            Ok(stream) => stream,
            Err(error) => return debug!(service, dialer, %error, "hosted connection ended"),
        };
        self.metrics.circuit_opened(End::Host);
        self.metrics.early_data(End::Host, stream.early_data());
        let Some(report) = report(service, &dialer, &connection) else { return };
        let mut entered = self.flows.enter(report);
        let counts = Arc::clone(&entered.counts);
        match carry(stream, connection, &counts).await {
            Ok(EndReason::IdleTimeout) => entered.end(EndReason::IdleTimeout, UDP_IDLE),
            Ok(reason) => entered.end(reason, Duration::ZERO),
            Err(error) => debug!(service, dialer, %error, "hosted connection ended"),
        }
    }
}

/// A report of a hosted flow that begins; none if its connection is over already.
fn report(service: &str, dialer: &str, connection: &Connection) -> Option<FlowReport> {
    let protocol = match connection {
        Connection::Stream(_) => Protocol::Tcp,
        Connection::Datagrams(_) => Protocol::Udp,
    };
    let (_, [source, destination]) = connection.ends()?;
    Some(FlowReport {
        protocol,
        source,
        destination,
        name: None,
        service: service.to_owned(),
        dialer: Some(dialer.to_owned()),
        process: None,
        age: 0,
        sent: 0,
        received: 0,
    })
}

/// Carries both ways; gives how it has ended.
async fn carry(
    stream: Stream,
    connection: Connection,
    counts: &Counts,
) -> std::io::Result<EndReason> {
    match connection {
        Connection::Stream(connection) => carry_stream(stream, connection, counts).await,
        Connection::Datagrams(socket) => carry_datagrams(stream, &socket, counts).await,
    }
}

async fn carry_stream(
    mut stream: Stream,
    mut connection: TcpStream,
    counts: &Counts,
) -> std::io::Result<EndReason> {
    connection.set_nodelay(true)?;
    let mut counted = Counted { stream: &mut connection, counts, sight: Sight::default() };
    let ended = copy_bidirectional(&mut stream, &mut counted).await;
    if ended.is_err() {
        // What was cut must not look complete, at either end.
        reset(connection);
        stream.abort();
    }
    ended.map(|_| EndReason::EndOfFlow)
}

/// Carries datagrams both ways until the dialer ends the circuit, or for [`UDP_IDLE`] none has come from either side.
async fn carry_datagrams(
    stream: Stream,
    socket: &UdpSocket,
    counts: &Counts,
) -> std::io::Result<EndReason> {
    let messages: Messages = stream.into_messages();
    let mut silent_at = Instant::now() + UDP_IDLE;
    loop {
        tokio::select! {
            received = receive(socket) => {
                let datagram = received?;
                if !datagram.is_empty() || messages.takes_empty() {
                    messages.send(&datagram).await?;
                    counts.add_sent(datagram.len());
                }
            }
            message = messages.recv() => match message? {
                Some(message) => {
                    socket.send(&message).await?;
                    counts.add_received(message.len());
                }
                None => return messages.shutdown().await.map(|()| EndReason::EndOfFlow),
            },
            () = sleep_until(silent_at) => {
                return messages.shutdown().await.map(|()| EndReason::IdleTimeout);
            }
        }
        silent_at = Instant::now() + UDP_IDLE;
    }
}

#[cfg(test)]
mod tests {
    use nightgate_sdk::ServiceId;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_may_be_hosted_and_has_servers_is() {
        let service = |name: &str, permission, config: &[(&str, Value)]| Service {
            id: ServiceId::new(name),
            name: name.into(),
            permissions: vec![permission],
            encryption_required: true,
            native_ends: Vec::new(),
            config: config.iter().map(|(kind, it)| ((*kind).to_owned(), it.clone())).collect(),
        };
        let server = json!({ "protocol": "tcp", "address": "10.0.0.1", "port": 80 });
        let two = json!({ "terminators": [server, server] });
        let services = [
            service("web", Permission::Bind, &[("host.v1", server.clone())]),
            service("two", Permission::Bind, &[("host.v2", two)]),
            service("dialed", Permission::Dial, &[("host.v1", server)]),
            service("application", Permission::Bind, &[]),
            service("broken", Permission::Bind, &[("host.v1", json!({ "port": "x" }))]),
        ];
        let (hosted, problems) = hosted_services(&services, "host");
        let found: Vec<_> =
            hosted.iter().map(|it| (it.name.as_str(), it.terminators.len())).collect();
        assert_eq!(found, [("web", 1), ("two", 2)]);
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(problem.to_string().contains("service broken"), "{problem}");
    }
}
