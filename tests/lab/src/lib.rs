//! A laboratory on one machine: network namespaces, links, processes, captures.
//!
//! Everything is removed when its owner is dropped, also on panic. What a killed run leaves behind
//! carries the identity of that run ([`RunId`]), so that [`sweep`] of a later one can remove it.

mod bpf;
mod capture;
mod cgroup;
pub mod classbench;
mod command;
mod figure;
mod http;
mod interrupt;
mod leftover;
mod link;
mod mesh;
mod namespace;
pub mod overlay;
mod process;
mod recorder;
mod resolved;
mod run;
mod suricata;
mod wait;
mod wire;

pub use self::{
    bpf::BpfFileSystem,
    capture::{Capture, packet_comments},
    cgroup::Cgroup,
    command::{program, run, shell},
    figure::Figure,
    http::HttpServer,
    interrupt::{catch_interrupts, interrupted},
    leftover::{leftovers, remaining, sweep},
    link::{Bridge, veth},
    mesh::{Mesh, MeshTopology},
    namespace::Namespace,
    process::{Process, memory},
    recorder::Recorder,
    resolved::SystemdResolved,
    run::{RunId, temporary_folder},
    suricata::{Checksums, Suricata, SuricataStatistics},
    wait::until,
    wire::{Carried, Impairment, Way, Wire},
};
