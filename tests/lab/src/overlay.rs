//! The product at work: the demo's network, its processes, and what is to be seen.

mod configuration;
mod deployment;
mod firewall;
mod healing;
mod openziti;
mod scenes;
mod sdk;
mod topology;
mod verdict;

pub use self::{
    deployment::{Deployment, Programs},
    scenes::{SCENES, Scene, stage},
    topology::{Family, Topology, address},
};
