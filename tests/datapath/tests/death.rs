//! The process dies; the firewall does not.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    path::PathBuf,
    time::Duration,
};

use nightgate_abi::listener::Transport;
use nightgate_datapath::{Datapath, Pins};
use nightgate_datapath_tests::{LAN, WAN, gateway_namespace, rule_set};
use nightgate_lab::{BpfFileSystem, Namespace, Process, temporary_folder, until};
use nightgate_ruleset::{FlowTables, ZoneName};
use nix::sys::signal::Signal;
use tempfile::TempDir;

const RULES: &str =
    "- { id: web, from: lan, to: local, protocol: tcp, destination_ports: [7001], action: accept }";
const OTHER_RULES: &str = "- { id: other, from: lan, to: local, protocol: tcp, destination_ports: [7002], action: accept }";
const LONG: Duration = Duration::from_secs(30);

/// A gateway whose programs are held by a process of their own, a client, and a connection between them.
/// What is declared first ends first.
struct Scene {
    holder: Process,
    near: TcpStream,
    far: TcpStream,
    listeners: [TcpListener; 2],
    client: Namespace,
    gateway: Namespace,
    bpf: BpfFileSystem,
    folder: TempDir,
}

#[test]
fn refused_stays_refused_and_established_goes_on_when_the_process_is_killed() {
    let mut scene = Scene::new();
    scene.assert_policy();
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    scene.assert_policy();

    scene.restart();
    scene.assert_policy();
    scene.holder.stop(Signal::SIGTERM, LONG).expect("stopped");
    scene.assert_policy();
}

#[test]
fn the_next_process_takes_over_rules_flows_and_counts() {
    let mut scene = Scene::new();
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    let (first, flows) = scene.inside(|datapath| (web_packets(datapath), flows_of(datapath)));
    assert!(first > 0, "{first} packets before");
    assert_eq!(flows, 1, "the connection");

    scene.exchange();
    let second = scene.inside(|datapath| {
        let before = web_packets(datapath);
        attach(datapath);
        datapath.commit(&rule_set(RULES).image()).expect("commit");
        assert!(web_packets(datapath) >= before, "counted on");
        assert_eq!(flows_of(datapath), 1, "the connection");
        before
    });
    assert!(second > first, "{second} packets after {first}");
    scene.assert_policy();
    assert!(scene.inside(|datapath| web_packets(datapath)) > second, "counted on after a commit");
}

#[test]
fn programs_that_are_in_the_kernel_are_used_again_but_not_on_other_tables() {
    let mut scene = Scene::new();
    let first = scene.programs();
    assert!(first.len() >= 4, "{first:?}");
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    scene.restart();
    assert_eq!(scene.programs(), first);
    scene.assert_policy();

    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    fs::remove_file(scene.maps().join("REASON_COUNTERS")).expect("removed");
    scene.restart();
    let anew = scene.programs().difference(&first).count();
    assert!(anew >= 2, "those of interfaces would count where nobody looks: {anew} loaded anew");
    scene.assert_policy();
}

#[test]
fn tables_of_another_version_are_replaced_without_a_gap() {
    let mut scene = Scene::new();
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    let own = scene.maps();
    let old = own.with_file_name("maps-0");
    fs::rename(&own, &old).expect("renamed");

    scene.inside(|datapath| {
        assert!(!datapath.is_in_force(), "other tables are not taken over");
        datapath.commit(&rule_set(RULES).image()).expect("commit");
        assert!(old.exists(), "kept until the links are switched");
        attach(datapath);
        datapath.drop_leftovers().expect("dropped");
    });
    assert!(!old.exists());
    scene.assert_policy();
}

#[test]
fn an_interface_that_came_anew_is_protected_and_one_that_left_is_released() {
    let mut scene = Scene::new();
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    scene.gateway.ip(&format!("link delete {WAN}")).expect("deleted");
    scene.gateway.ip(&format!("link add {WAN} type veth peer name {WAN}-far")).expect("made");
    scene.restart();

    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    let pins = fs::read_dir(scene.maps().with_file_name("")).expect("listed").count();
    assert_eq!(pins, 5, "maps, and two links for each of two interfaces");
    scene.inside(|datapath| {
        datapath.attach(WAN, &zone("wan")).expect("attach");
        datapath.drop_leftovers().expect("dropped");
    });
    scene.wait_until_open();
}

#[test]
fn whose_datagrams_in_fragments_are_is_said_without_a_process_and_by_the_next() {
    let mut scene = Scene::new();
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    let pin = scene.maps().with_file_name("lookup");
    assert!(!pin.exists(), "nobody has listened");
    let listen = |datapath: &mut Datapath| {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(loopback).expect("bound");
            let address = socket.local_addr().expect("bound");
            datapath.set_listening_socket(Transport::Udp, address, socket.as_fd()).expect("set");
        }
    };
    for _ in 0..2 {
        scene.inside(listen);
        assert!(pin.exists());
        scene.inside(|datapath| {
            attach(datapath);
            datapath.drop_leftovers().expect("dropped");
        });
        assert!(pin.exists(), "it is no leftover");
    }
    scene.pins().remove().expect("removed");
    assert!(!pin.exists());
}

#[test]
fn rules_for_a_time_go_by_themselves_although_the_process_is_killed() {
    let mut scene = Scene::new();
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    scene.restart_with(&[OTHER_RULES, "2"]);
    assert!(scene.reaches(1), "accepted for a time");
    assert!(!scene.reaches(0), "refused for a time");
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");

    let is_back = |scene: &Scene| Ok((!scene.reaches(1)).then_some(()));
    until("the rules before", LONG, || is_back(&scene)).expect("they come back");
    scene.assert_policy();
    let (word, armed) = scene.inside(|datapath| (flows_of(datapath), web_packets(datapath)));
    assert!(word > 0 && armed > 0, "flows and counts are those of the rules before");
}

#[test]
fn a_new_process_goes_back_at_once_from_rules_that_nobody_kept() {
    let mut scene = Scene::new();
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    scene.restart_with(&[OTHER_RULES, "3600"]);
    assert!(scene.reaches(1));
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    assert!(scene.reaches(1), "the time is not over");
    scene.inside(|_| ());
    scene.assert_policy();
}

#[test]
fn rules_that_are_kept_stay() {
    let mut scene = Scene::new();
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    let time = Duration::from_millis(300);
    scene.inside(|datapath| {
        attach(datapath);
        datapath.commit_for(&rule_set(OTHER_RULES).image(), time).expect("commit");
        datapath.keep().expect("kept");
        std::thread::sleep(3 * time);
    });
    assert!(scene.reaches(1) && !scene.reaches(0), "kept");
    scene.inside(|datapath| {
        attach(datapath);
        datapath.commit_for(&rule_set(RULES).image(), time).expect("commit");
        datapath.commit(&rule_set(RULES).image()).expect("commit");
        std::thread::sleep(3 * time);
    });
    assert!(!scene.reaches(1) && scene.reaches(0), "replaced before its time");
}

#[test]
fn taking_the_firewall_down_leaves_nothing() {
    let mut scene = Scene::new();
    scene.holder.stop(Signal::SIGKILL, LONG).expect("killed");
    let pins = scene.pins();
    assert!(pins.exist());
    pins.remove().expect("removed");
    assert!(!pins.exist());
    scene.wait_until_open();
    pins.remove().expect("nothing left to remove");
    let notes = fs::read_dir(scene.folder.path()).expect("listed");
    assert!(!notes.flatten().any(|file| file.file_name().to_string_lossy().contains("notes")));
}

impl Scene {
    fn new() -> Self {
        let folder = temporary_folder().expect("a folder");
        let bpf = BpfFileSystem::mount(folder.path()).expect("mounted");
        let gateway = gateway_namespace();
        let client = Namespace::new("client").expect("a namespace");
        let far = format!("{LAN}-far");
        gateway.ip(&format!("link set {far} netns {}", client.name())).expect("moved");
        client.ip(&format!("link set {far} up")).expect("up");
        client.add_address(&far, "10.1.0.9/24").expect("an address");
        let listen = |port| TcpListener::bind(("10.1.0.1", port)).expect("bound");
        let listeners = gateway.enter(|| [7001, 7002].map(listen)).expect("entered");
        let mut holder = spawn(&gateway, &bpf, &folder, &[]);
        holder.wait_for_output("ready", LONG).expect("ready");
        let address = listeners[0].local_addr().expect("bound");
        let near =
            client.enter(|| TcpStream::connect(address)).expect("entered").expect("accepted");
        let (far, _) = listeners[0].accept().expect("accepted");
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(LONG)).expect("set");
        }
        Self { holder, near, far, listeners, client, gateway, bpf, folder }
    }

    fn restart(&mut self) {
        self.restart_with(&[]);
    }

    fn restart_with(&mut self, arguments: &[&str]) {
        fs::remove_file(self.holder.log_file()).expect("a log");
        self.holder = spawn(&self.gateway, &self.bpf, &self.folder, arguments);
        self.holder.wait_for_output("ready", LONG).expect("ready");
    }

    /// The open connection carries data both ways, and of two new ones the one that a rule accepts opens.
    fn assert_policy(&mut self) {
        self.exchange();
        assert!(self.reaches(0), "accepted");
        assert!(!self.reaches(1), "refused");
    }

    fn exchange(&mut self) {
        let mut byte = [0];
        self.near.write_all(b"a").expect("sent");
        self.far.read_exact(&mut byte).expect("received");
        self.far.write_all(b"b").expect("sent");
        self.near.read_exact(&mut byte).expect("received");
    }

    /// Whether the client can connect to one of the listeners.
    fn reaches(&self, listener: usize) -> bool {
        let address = self.listeners[listener].local_addr().expect("bound");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok();
        self.client.enter(connect).expect("entered")
    }

    /// Waits until nothing is refused any more; the kernel detaches a program some time after its last name
    /// has gone.
    fn wait_until_open(&self) {
        let is_open = || Ok(self.reaches(1).then_some(()));
        until("an open interface", LONG, is_open).expect("detached");
    }

    fn pins(&self) -> Pins {
        let pins = || Pins::of_gateway(self.bpf.path(), &self.folder.path().join("gw.sock"));
        self.gateway.enter(pins).expect("entered").expect("pins")
    }

    /// The folder of the pinned maps.
    fn maps(&self) -> PathBuf {
        let only = |folder: PathBuf, prefix: &str| {
            let mut paths =
                fs::read_dir(folder).expect("listed").flatten().map(|entry| entry.path());
            let name =
                |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
            paths.find(|path| name(path).is_some_and(|name| name.starts_with(prefix)))
        };
        let gateway = only(self.bpf.path().join("nightgate"), "").expect("a gateway");
        only(gateway, "maps-").expect("maps")
    }

    /// The kernel's numbers of the programs that the holder has open, proc_pid_fdinfo(5).
    fn programs(&self) -> BTreeSet<u32> {
        let folder = format!("/proc/{}/fdinfo", self.holder.id());
        let files = fs::read_dir(folder).expect("listed").flatten();
        let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        let number = |text: String| {
            text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
        };
        texts.filter(|text| text.contains("prog_type:")).filter_map(number).collect()
    }

    /// Takes the programs over in this process, for as long as the function runs.
    fn inside<T: Send>(&self, function: impl FnOnce(&mut Datapath) -> T + Send) -> T {
        let pins = self.pins();
        let open =
            || function(&mut Datapath::open(pins, FlowTables::default()).expect("taken over"));
        self.gateway.enter(open).expect("entered")
    }
}

fn spawn(
    gateway: &Namespace,
    bpf: &BpfFileSystem,
    folder: &TempDir,
    arguments: &[&str],
) -> Process {
    let mut command = gateway.command(env!("CARGO_BIN_EXE_holder"));
    command.arg(bpf.path()).arg(folder.path().join("gw.sock")).arg(RULES).args(arguments);
    Process::spawn("holder", command, folder.path()).expect("started")
}

fn attach(datapath: &mut Datapath) {
    for (interface, name) in [(LAN, "lan"), (WAN, "wan")] {
        datapath.attach(interface, &zone(name)).expect("attach");
    }
}

fn web_packets(datapath: &Datapath) -> u64 {
    let hits = datapath.rule_hits().expect("hits");
    hits.iter().map(|(_, hits)| hits.counter.packets).sum()
}

fn flows_of(datapath: &Datapath) -> usize {
    let flows = datapath.flows().expect("flows");
    flows.iter().filter(|flow| flow.responder.address.port() == 7001).count()
}

fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).expect("a zone's name")
}
