//! Hosting: connects circuits that arrive for services which the identity may host to their servers, which this host
//! reaches. No port is opened for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nightgate_gateway::{
    carry::reset,
    hosting::{Connection, Prober, Standing, UDP_IDLE, watch_health},
};
use nightgate_model::{
    configs::{ConfigShapeError, HostV1, hosts},
    entity::Precedence,
};
use nightgate_sdk::{
    BindOptions, Caller, Context, MAX_MESSAGE, Messages, Permission, Service, ServiceId, Stream,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info, warn};

/// Circuits carried at one time; more are refused.
const MAX_CIRCUITS: usize = 32_768;
/// Wait before a service is bound anew that could not be.
const RETRY: Duration = Duration::from_secs(2);

/// Everything hosted here. Dropping it ends the hosting and every circuit of it.
#[derive(Debug)]
pub(crate) struct Hosting {
    host: Host,
    services: BTreeMap<ServiceId, Hosted>,
    /// Problems that the log knows already.
    logged: BTreeSet<String>,
}

/// What all servers share.
#[derive(Clone, Debug)]
struct Host {
    context: Context,
    prober: Prober,
    slots: Arc<Semaphore>,
}

#[derive(Debug)]
struct Hosted {
    what: HostedService,
    /// One for each server; they end with this.
    _tasks: JoinSet<()>,
}

/// A service as it is hosted here.
#[derive(Clone, Debug, Eq, PartialEq)]
struct HostedService {
    id: ServiceId,
    name: String,
    servers: Vec<HostV1>,
}

impl Hosting {
    /// Hosts nothing yet.
    pub(crate) fn new(context: Context) -> Self {
        let slots = Arc::new(Semaphore::new(MAX_CIRCUITS));
        let host = Host { context, prober: Prober::new(), slots };
        Self { host, services: BTreeMap::new(), logged: BTreeSet::new() }
    }

    /// Hosts those of `services` that the identity may host, and no others. One that did not change keeps its circuits;
    /// those of another end.
    pub(crate) fn apply(&mut self, services: &[Service]) {
        let (wanted, problems) = hosted_services(services);
        let problems: BTreeSet<_> = problems.iter().map(ConfigShapeError::to_string).collect();
        for problem in problems.difference(&self.logged) {
            warn!(problem, "a service is not hosted");
        }
        self.logged = problems;
        self.services.retain(|_, hosted| {
            let keep = wanted.contains(&hosted.what);
            if !keep {
                info!(service = %hosted.what.name, "hosting ends");
            }
            keep
        });
        for what in wanted {
            self.services.entry(what.id.clone()).or_insert_with(|| {
                let mut tasks = JoinSet::new();
                for server in &what.servers {
                    tasks.spawn(self.host.clone().serve(what.name.clone(), server.clone()));
                }
                Hosted { what, _tasks: tasks }
            });
        }
    }
}

/// What may be hosted and has servers, and what cannot be read.
fn hosted_services(services: &[Service]) -> (Vec<HostedService>, Vec<ConfigShapeError>) {
    let (mut hosted, mut problems) = (Vec::new(), Vec::new());
    let bindable = services.iter().filter(|it| it.permissions.contains(&Permission::Bind));
    for Service { id, name, config, .. } in bindable {
        match hosts(name, config) {
            Ok(servers) if servers.is_empty() => {}
            Ok(servers) => {
                hosted.push(HostedService { id: id.clone(), name: name.clone(), servers });
            }
            Err(problem) => problems.push(problem),
        }
    }
    (hosted, problems)
}

impl Host {
    /// Keeps a service bound for one of its servers, for ever.
    async fn serve(self, service: String, server: HostV1) {
        let server = Arc::new(server);
        let instance = server.listen.instance(&self.context.identity_name());
        // All end with this task, and so with the service's hosting.
        let mut circuits = JoinSet::new();
        let (mut standing, _checks) = watch_health(&self.prober, &service, &server);
        loop {
            let Standing { precedence, cost } = *standing.borrow_and_update();
            if precedence == Precedence::Failed && standing.changed().await.is_ok() {
                continue;
            }
            let instance = (!instance.is_empty()).then(|| instance.clone());
            let options = BindOptions { instance, cost, ..BindOptions::default() };
            let mut listener = match self.context.bind_with(&service, options).await {
                Ok(listener) => listener,
                Err(error) => {
                    warn!(
                        service,
                        error = &error as &dyn std::error::Error,
                        "not hosted; it is tried again"
                    );
                    sleep(RETRY).await;
                    continue;
                }
            };
            info!(service, %server, "hosting begins");
            loop {
                tokio::select! {
                    (stream, caller) = listener.accept() => {
                        while circuits.try_join_next().is_some() {}
                        let (host, server) = (self.clone(), Arc::clone(&server));
                        circuits.spawn(host.take(service.clone(), server, stream, caller));
                    }
                    // What dialers choose by is told by binding anew.
                    Ok(()) = standing.changed() => break,
                }
            }
        }
    }

    async fn take(self, service: String, server: Arc<HostV1>, stream: Stream, caller: Caller) {
        let Ok(_slot) = self.slots.try_acquire() else {
            warn!(service, limit = MAX_CIRCUITS, "circuit ended: too many");
            return stream.abort();
        };
        let dialer = caller.name;
        let ended = match Connection::open(&server, &caller.app_data).await {
            Ok(Connection::Stream(connection)) => carry_stream(stream, connection).await,
            Ok(Connection::Datagrams(socket)) => carry_datagrams(stream, &socket).await,
            Err(error) => {
                let cause = error.cause().as_str();
                info!(service, dialer, cause, %error, "circuit ended: its server is not reached");
                return stream.abort();
            }
        };
        if let Err(error) = ended {
            debug!(service, dialer, %error, "hosted connection ended");
        }
    }
}

async fn carry_stream(mut stream: Stream, mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let ended = copy_bidirectional(&mut stream, &mut connection).await;
    if ended.is_err() {
        // What was cut must not look complete, at either end.
        reset(connection);
        stream.abort();
    }
    ended.map(drop)
}

/// Carries datagrams both ways until the dialer ends the circuit, or for [`UDP_IDLE`] none has come from either side.
async fn carry_datagrams(stream: Stream, socket: &UdpSocket) -> std::io::Result<()> {
    let messages: Messages = stream.into_messages();
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut silent_at = Instant::now() + UDP_IDLE;
    loop {
        tokio::select! {
            received = socket.recv(&mut buffer) => {
                // An empty one cannot be told from no message at all.
                match buffer.get(..received?) {
                    Some(datagram) if !datagram.is_empty() => messages.send(datagram).await?,
                    Some(_) | None => {}
                }
            }
            message = messages.recv() => match message? {
                Some(message) => drop(socket.send(&message).await?),
                None => return messages.shutdown().await,
            },
            () = sleep_until(silent_at) => return messages.shutdown().await,
        }
        silent_at = Instant::now() + UDP_IDLE;
    }
}

#[cfg(test)]
mod tests {
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
        let (hosted, problems) = hosted_services(&[
            service("web", Permission::Bind, &[("host.v1", server.clone())]),
            service("two", Permission::Bind, &[("host.v2", two)]),
            service("dialed", Permission::Dial, &[("host.v1", server)]),
            service("application", Permission::Bind, &[]),
            service("broken", Permission::Bind, &[("host.v1", json!({ "port": "x" }))]),
        ]);
        let found: Vec<_> = hosted.iter().map(|it| (it.name.as_str(), it.servers.len())).collect();
        assert_eq!(found, [("web", 1), ("two", 2)]);
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(problem.to_string().contains("service broken"), "{problem}");
    }
}
