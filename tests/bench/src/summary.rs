//! What a run of several suites comes to.

use std::{fmt::Write as _, time::Duration};

use nightgate_lab::Figure;

/// A suite that has run.
pub struct Ran {
    /// Its name.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Why it has no figures, if it failed.
    pub error: Option<String>,
}

/// Every figure with a target, in a line each with its verdict; then how long each suite took, and the count.
pub fn summary(figures: &[Figure], suites: &[Ran]) -> String {
    let mut text = String::new();
    let judged = || figures.iter().filter_map(|figure| Some((figure, figure.holds?)));
    for (figure, holds) in judged() {
        _ = writeln!(text, "{}", line(figure, holds));
    }
    text.push('\n');
    for suite in suites {
        let end = suite.error.as_deref().map(|error| format!("  FAILED: {error}"));
        let took = suite.took.as_secs_f64();
        _ = writeln!(text, "{:14} {took:7.1} s{}", suite.name, end.unwrap_or_default());
    }
    let (all, reached) = (judged().count(), judged().filter(|(_, holds)| *holds).count());
    let minutes = suites.iter().map(|suite| suite.took.as_secs_f64()).sum::<f64>() / 60.0;
    _ = writeln!(text, "{reached} of {all} targets reached, in {minutes:.1} minutes");
    text
}

/// A figure beside what it has to reach, and how much of that it is.
fn line(figure: &Figure, holds: bool) -> String {
    let verdict = if holds { "reached" } else { "MISSED " };
    let target = figure.target.map_or_else(String::new, |target| {
        let part = figure.value / target;
        format!(" target {target:>9.2} ({part:.2} of it)")
    });
    let peer = figure.peer.as_ref().map_or_else(String::new, |peer| format!(" beside {peer}"));
    format!(
        "{verdict} {:12} {:52} {:20} {:12.2} {:8}{target}{peer}",
        figure.suite, figure.case, figure.metric, figure.value, figure.unit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(case: &str, value: f64, target: Option<f64>, peer: Option<&str>) -> Figure {
        Figure {
            suite: "gateway".into(),
            case: case.into(),
            metric: "1 stream".into(),
            value,
            unit: "Gbit/s".into(),
            peer: peer.map(str::to_owned),
            target,
            holds: target.map(|target| value >= target),
        }
    }

    #[test]
    fn misses_stand_beside_what_was_reached_and_all_is_counted() {
        let figures = [
            figure("ours", 4.5, Some(6.0), None),
            figure("ours / theirs", 1.2, Some(1.0), Some("theirs")),
            figure("theirs", 3.0, None, None),
        ];
        let ran = |name, error: Option<&str>| Ran {
            name,
            took: Duration::from_secs(90),
            error: error.map(str::to_owned),
        };
        let text = summary(&figures, &[ran("gateway", None), ran("mirror", Some("not root"))]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("MISSED") && lines[0].contains("(0.75 of it)"), "{text}");
        assert!(lines[1].starts_with("reached") && lines[1].ends_with("beside theirs"), "{text}");
        assert!(lines[4].contains("mirror") && lines[4].ends_with("FAILED: not root"), "{text}");
        assert_eq!(lines[5], "1 of 2 targets reached, in 3.0 minutes");
    }
}
