//! `cargo xtask setup`: brings the machine what building, testing and checking need.
//!
//! A plan is made first, as data: either it is carried out, or its commands are printed.

mod backports;
mod kernel_toolchain;
mod packages;
mod plan;
mod python;

use std::time::Instant;

use anyhow::{Result, bail};
use nix::unistd::geteuid;

pub(crate) use self::{kernel_toolchain::KernelToolchain, packages::BORINGTUN};
use self::{packages::Group, plan::Plan};
use crate::{progress, workspace::Workspace};

/// A part of the project's work that needs something of the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// To compile the host programs.
    Host,
    /// To compile the kernel programs.
    Kernel,
    /// To make networks and look at their traffic.
    Lab,
    /// To let an intrusion detection system look at mirrored traffic.
    Sensor,
    /// To let a client of others dial and host.
    Client,
    /// To run `cargo xtask check`.
    Check,
    /// To build fuzz targets.
    Fuzz,
    /// To measure beside other programs.
    Bench,
}

impl Need {
    /// Everything.
    pub(crate) const ALL: [Self; 8] = [
        Self::Host,
        Self::Kernel,
        Self::Lab,
        Self::Sensor,
        Self::Client,
        Self::Check,
        Self::Fuzz,
        Self::Bench,
    ];
}

/// Whether missing things may be installed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// Install what is missing, if this user can.
    Install,
    /// Only say what is missing and how to get it.
    ReportOnly,
}

/// Makes sure that everything for `needs` is there. Silent if it already is.
///
/// # Errors
/// Something is missing and may not or could not be installed; the commands that would are printed.
pub(crate) fn ensure(workspace: &Workspace, needs: &[Need], mode: Mode) -> Result<()> {
    let plan = plan(workspace, needs)?;
    if plan.is_empty() {
        return Ok(());
    }
    let blocked = plan.needs_root() && !geteuid().is_root();
    if mode == Mode::ReportOnly || blocked || !plan.manual().is_empty() {
        explain(&plan);
        bail!("the machine lacks {}", plan.missing().join(", "));
    }
    let started = Instant::now();
    eprintln!("Installing {} (once for this machine)", plan.missing().join(", "));
    plan.carry_out(&workspace.logs())?;
    progress::report("setup", "ok", started.elapsed());
    let rest = self::plan(workspace, needs)?;
    if !rest.is_empty() {
        explain(&rest);
        bail!("still missing after the installation: {}", rest.missing().join(", "));
    }
    Ok(())
}

/// What is missing for `needs`, and what brings it.
fn plan(workspace: &Workspace, needs: &[Need]) -> Result<Plan> {
    let mut plan = Plan::default();
    for need in needs {
        match need {
            Need::Host => packages::plan(&mut plan, Group::Compiler),
            Need::Kernel => kernel_toolchain::plan(workspace, &mut plan)?,
            Need::Lab => {
                packages::plan(&mut plan, Group::Network);
                packages::plan_resolved(workspace, &mut plan);
            }
            Need::Sensor => backports::plan(&mut plan),
            Need::Client => python::plan(workspace, &mut plan),
            Need::Check => {
                kernel_toolchain::plan_clippy(workspace, &mut plan)?;
                packages::plan_cargo_deny(workspace, &mut plan);
                packages::plan(&mut plan, Group::Counter);
            }
            Need::Fuzz => packages::plan(&mut plan, Group::Fuzzer),
            Need::Bench => {
                packages::plan(&mut plan, Group::Peers);
                packages::plan_boringtun(workspace, &mut plan);
            }
        }
    }
    Ok(plan)
}

fn explain(plan: &Plan) {
    eprintln!("Missing: {}. What brings it:\n", plan.missing().join(", "));
    for line in plan.commands() {
        eprintln!("    {line}");
    }
    for hint in plan.manual() {
        eprintln!("    # {hint}");
    }
    eprintln!();
}
