//! Data that goes with dials of a tunneler: to a program that hosts, and to another tunneler.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use nightgate_lab::{Process, until};
use nightgate_sdk::{Context, Identity, Listener, Stream};
use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
};

use super::{LONG, PLACES, Scene};

/// Where the services are intercepted that a tunneler hosts, and a program.
const PAGE: &str = "10.9.1.9";
const NOTE: &str = "10.9.2.9";
/// What the program answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\na note\n";

impl Scene {
    /// Makes a config of this name.
    fn config(&self, name: &str, kind: &str, document: &str) {
        let file = self.file(name);
        fs::write(&file, document).expect("written");
        self.operate(&format!("config create {name} {kind} --data {}", file.display()));
    }

    /// A service of this name that `laptop` may dial here, and whom `host` may host; the host's identity.
    fn service(&self, name: &str, host: &str, place: &str, configs: &str) -> PathBuf {
        let (token, identity) =
            (self.file(&format!("{host}.jwt")), self.file(&format!("{host}.json")));
        self.operate(&format!("identity create {host} --jwt-out {}", token.display()));
        self.operate(&format!("enroll {} --out {}", token.display(), identity.display()));
        let intercept = format!(
            r#"{{"protocols":["tcp"],"addresses":["{place}"],"portRanges":[{{"low":80,"high":80}}]}}"#
        );
        self.config(&format!("{name}-intercept"), "intercept.v1", &intercept);
        self.operate(&format!("service create {name} --config {name}-intercept {configs}"));
        self.operate(&format!(
            "policy create {name}-bind bind --identity @{host} --service @{name}"
        ));
        self.operate(&format!(
            "policy create {name}-dial dial --identity @laptop --service @{name}"
        ));
        identity
    }

    /// A tunneler that hosts a web server of this host.
    fn tunneler_that_hosts(&self, metrics: &Path) -> [Process; 2] {
        let mut server = self.namespace.command("python3");
        server.args(["-u", "-m", "http.server", "8000", "--bind", "127.0.0.1"]);
        server.current_dir(self.folder.path());
        let mut server = Process::spawn("server", server, self.folder.path()).expect("started");
        server.wait_for_output("Serving HTTP", LONG).expect("it serves");
        let host = r#"{"protocol":"tcp","address":"127.0.0.1","port":8000}"#;
        self.config("page-host", "host.v1", host);
        let identity = self.service("page", "server", PAGE, "--config page-host --config early");
        let mut command = self.namespace.command(&self.nightgate);
        command.args(["tunnel", "host", "--identity"]).arg(identity);
        command.arg("--metrics-socket").arg(metrics);
        let mut host = Process::spawn("host", command, self.folder.path()).expect("started");
        host.wait_for_output("hosting begins", LONG).expect("it hosts");
        [server, host]
    }

    /// A program that hosts, and counts what came with dials.
    fn program_that_hosts(&self) -> (Runtime, Arc<AtomicUsize>) {
        let identity = self.service("note", "writer", NOTE, "--config early");
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all();
        let runtime = self.namespace.enter(|| builder.build()).expect("entered").expect("built");
        let carried = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&carried);
        let bound = runtime.spawn(async move {
            let identity = Identity::load(identity).expect("an identity");
            let context = Context::load(&identity).await.expect("a session");
            context.bind("note").await.expect("bound")
        });
        let listener = runtime.block_on(bound).expect("it hosts");
        runtime.spawn(answer(listener, counted));
        (runtime, carried)
    }
}

/// Answers every request that ends with an empty line.
async fn answer(mut listener: Listener, carried: Arc<AtomicUsize>) {
    loop {
        let (mut stream, _) = listener.accept().await;
        carried.fetch_add(stream.early_data(), Ordering::Relaxed);
        tokio::spawn(async move {
            let request = read_request(&mut stream).await;
            assert!(request.starts_with(b"GET / HTTP/1.1\r\n"), "{request:?}");
            assert_eq!(request.windows(4).filter(|four| four == b"GET ").count(), 1);
            stream.write_all(ANSWER).await.expect("written");
            stream.shutdown().await.expect("ended");
        });
    }
}

async fn read_request(stream: &mut Stream) -> Vec<u8> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.expect("a request"));
    }
    request
}

/// Bytes that went with dials, as a process counts them at this end.
fn carried(metrics: &Path, end: &str) -> u64 {
    let mut stream = UnixStream::connect(metrics).expect("connected");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    let name = format!("nightgate_early_data_bytes_total{{end=\"{end}\"}} ");
    let bytes = text.lines().find_map(|line| line.strip_prefix(&name));
    bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
}

#[test]
fn what_programs_say_first_goes_with_the_dials_of_tunnelers_where_the_service_lets_it() {
    let scene = Scene::start();
    let [dialer, host] = ["dialer.metrics", "host.metrics"].map(|name| scene.file(name));
    scene.config("early", "end-to-end.v1", r#"{"method":"negotiated","earlyData":true}"#);
    let _hosting = scene.tunneler_that_hosts(&host);
    let (_runtime, to_program) = scene.program_that_hosts();
    let socket = dialer.to_str().expect("text");
    let mut tunnel = scene.tunnel("tunnel", &["--metrics-socket", socket]);
    let fetch = |place: &str, expected: &str| {
        let page = scene.curl(place);
        let text = String::from_utf8_lossy(&page.stdout);
        assert!(text.contains(expected), "{place}: {page:?}\n{}", tunnel.log());
    };
    for _dial in 0..3 {
        fetch(PLACES[0], "Hello laptop");
    }
    assert_eq!(carried(&dialer, "dialer"), 0, "the service does not let it");

    for place in [PAGE, NOTE] {
        until("an answer", LONG, || Ok(scene.curl(place).status.success().then_some(())))
            .unwrap_or_else(|error| panic!("{place}: {error:#}\n{}", tunnel.log()));
    }
    until("data with a dial to a tunneler", LONG, || {
        fetch(PAGE, "Directory listing");
        Ok((carried(&host, "host") > 0).then_some(()))
    })
    .expect("carried");
    until("data with a dial to a program", LONG, || {
        fetch(NOTE, "a note");
        Ok((to_program.load(Ordering::Relaxed) > 0).then_some(()))
    })
    .expect("carried");
    let all = carried(&host, "host") + to_program.load(Ordering::Relaxed) as u64;
    assert_eq!(carried(&dialer, "dialer"), all, "both ends count the same");
    tunnel.stop(Signal::SIGTERM, LONG).expect("stopped");
}
