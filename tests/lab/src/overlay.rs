//! The product at work: the demo's network, its processes, and what is to be seen.

mod access;
mod configuration;
mod deployment;
mod everyday;
mod firewall;
mod healing;
mod mirroring;
mod openziti;
mod ports;
mod scenes;
mod sdk;
mod servers;
mod starting;
mod topology;
mod verdict;
mod watching;

pub use self::{
    access::{Access, Outcome},
    configuration::TUNNELER,
    deployment::{Deployment, Programs},
    scenes::{SCENES, Scene, after, stage},
    topology::{Family, Topology, address},
};
