//! `cargo xtask demo`: the product at work, one line for each promise kept.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nightgate_lab::{
    Figure,
    overlay::{Access, Deployment, Family, Programs, SCENES, stage},
};
use nix::unistd::geteuid;

use crate::{
    Format, build,
    setup::{self, Mode, Need},
    workspace::Workspace,
};

/// How long the demo may take once everything is built.
const TARGET: Duration = Duration::from_secs(90);
/// How much of each log is shown after a failure, in lines.
const TAIL_LINES: usize = 25;

/// Puts the lines of a table below the description of its step.
const TABLE_INDENT: &str = "\n                 ";

/// Builds what is needed, plays all scenes, and removes everything again.
///
/// # Errors
/// A scene does not show what it promises, or something is left behind.
pub(crate) fn run(workspace: &Workspace, format: Format) -> Result<()> {
    if !geteuid().is_root() {
        bail!("the demo needs root: it makes network namespaces and loads kernel programs");
    }
    nightgate_lab::catch_interrupts()?;
    let needs = [Need::Host, Need::Kernel, Need::Lab, Need::Sensor, Need::Client];
    setup::ensure(workspace, &needs, Mode::Install)?;
    build::kernel_programs(workspace)?;
    build::demo_programs(workspace)?;
    nightgate_lab::sweep()?;

    let started = Instant::now();
    let played = play(format);
    let removed = step(format, "removed", show_nothing_is_left);
    let in_time = total(format, started.elapsed());
    if !(played? && removed?.is_some() && in_time?) {
        bail!("the demo failed");
    }
    Ok(())
}

/// Plays the scenes up to the first that fails. Everything they made is removed on return.
fn play(format: Format) -> Result<bool> {
    let made = step(format, "network", || {
        let deployment = stage(Programs::find()?, Family::V4)?;
        Ok((deployment, "namespaces, links, captures and a web server".to_owned()))
    })?;
    let Some(mut deployment) = made else { return Ok(false) };
    for scene in SCENES {
        let play = || Ok(((), format!("{}: {}", scene.promise, (scene.play)(&mut deployment)?)));
        if step(format, scene.name, play)?.is_none() {
            show_logs(&deployment);
            return Ok(false);
        }
    }
    show_accesses(format, deployment.accesses())?;
    Ok(true)
}

/// What was accessed, by whom, over which path, what the wire showed, what was refused and why.
fn show_accesses(format: Format, accesses: &[Access]) -> Result<()> {
    match format {
        Format::Table => println!("\n{}", Access::table(accesses)),
        Format::Json => {
            for access in accesses {
                println!("{}", serde_json::to_string(access)?);
            }
        }
    }
    Ok(())
}

/// Does one thing and prints how it went; nothing is returned if it failed.
fn step<T>(
    format: Format,
    name: &str,
    run: impl FnOnce() -> Result<(T, String)>,
) -> Result<Option<T>> {
    let started = Instant::now();
    let (result, seen) = match run() {
        Ok((result, seen)) => (Some(result), seen),
        Err(error) => (None, format!("{error:#}")),
    };
    let holds = result.is_some();
    let took = started.elapsed().as_secs_f64();
    match format {
        Format::Table => {
            let seen = seen.trim_end().replace('\n', TABLE_INDENT);
            println!("{} {took:6.1} s  {name:12} {seen}", if holds { "ok    " } else { "FAILED" });
        }
        Format::Json => {
            if !holds {
                eprintln!("{name}: {seen}");
            }
            println!("{}", figure(name, took, None, holds).to_json()?);
        }
    }
    Ok(result)
}

fn show_nothing_is_left() -> Result<((), String)> {
    let remaining = nightgate_lab::remaining()?;
    ensure!(remaining.is_empty(), "still there: {}", remaining.join(", "));
    Ok(((), "no namespace, process or file of the demo is left".to_owned()))
}

fn total(format: Format, took: Duration) -> Result<bool> {
    let holds = took <= TARGET;
    let (took, target) = (took.as_secs_f64(), TARGET.as_secs_f64());
    match format {
        Format::Table => {
            let verdict = if holds { "ok    " } else { "FAILED" };
            println!("{verdict} {took:6.1} s  {:12} at most {target} s", "total");
        }
        Format::Json => println!("{}", figure("total", took, Some(target), holds).to_json()?),
    }
    Ok(holds)
}

fn figure(case: &str, took: f64, target: Option<f64>, holds: bool) -> Figure {
    Figure {
        suite: "demo".to_owned(),
        case: case.to_owned(),
        metric: "time".to_owned(),
        value: took,
        unit: "s".to_owned(),
        peer: None,
        target,
        holds: Some(holds),
    }
}

fn show_logs(deployment: &Deployment) {
    eprintln!("\n{}", deployment.log_tails(TAIL_LINES));
}
