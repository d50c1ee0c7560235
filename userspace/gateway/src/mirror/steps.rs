//! From one plan to the next in the kernel, for gateways and tunnelers.

use nightgate_abi::mirror::MirrorSession;
use nightgate_datapath::{DatapathError, MirrorMaps};
use nightgate_mirror::{Numbering, Plan, PlannedSession};

/// Gives the sessions and sensors of a plan their numbers and tells the kernel of those that are new, `entry` of each session:
/// what is going to refer to them does so by number.
///
/// # Errors
/// The kernel refuses.
pub fn announce(
    mut kernel: MirrorMaps<'_>,
    numbering: &mut Numbering,
    plan: Plan,
    entry: impl Fn(&PlannedSession) -> MirrorSession,
) -> Result<Plan, DatapathError> {
    let plan = numbering.assign(plan);
    for sensor in plan.sensors() {
        if !numbering.holds_sensor(sensor.number) {
            kernel.set_sensor(sensor.number, sensor.value)?;
        }
    }
    for session in plan.sessions() {
        if !numbering.holds_session(session.id) {
            kernel.forget_copies(session.id)?;
            kernel.set_session(session.id, entry(session))?;
        }
    }
    Ok(plan)
}

/// Notes that an announced plan is in force, and removes what nothing refers to any more.
///
/// # Errors
/// The kernel refuses.
pub fn settle(
    mut kernel: MirrorMaps<'_>,
    numbering: &mut Numbering,
    plan: &Plan,
) -> Result<(), DatapathError> {
    let over = numbering.settle(plan);
    for id in over.sessions {
        kernel.remove_session(id)?;
    }
    for number in over.sensors {
        kernel.remove_sensor(number)?;
    }
    Ok(())
}
