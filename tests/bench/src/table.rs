//! Figures side by side.

use nightgate_lab::Figure;

/// A line for each case, a column for each metric, both in the order in which they first come. What is measured
/// beside a peer is left out.
pub fn table(figures: &[Figure]) -> String {
    let shown: Vec<&Figure> = figures.iter().filter(|figure| figure.peer.is_none()).collect();
    let (cases, metrics) = (distinct(&shown, |it| &it.case), distinct(&shown, |it| &it.metric));
    let cell = |case: &str, metric: &str| {
        let found = shown.iter().find(|figure| figure.case == case && figure.metric == metric);
        found.map_or_else(String::new, |figure| number(figure.value))
    };
    let unit = |metric: &str| {
        let found = shown.iter().find(|figure| figure.metric == metric);
        found.map_or_else(String::new, |figure| figure.unit.clone())
    };
    let line = |first: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:>11}")).collect();
        format!("{first:24}{cells}\n")
    };
    let of_metrics = |show: &dyn Fn(&str) -> String| metrics.iter().map(|it| show(it)).collect();
    let mut text = line("", of_metrics(&|metric| metric.to_owned()));
    text.push_str(&line("", of_metrics(&unit)));
    for case in &cases {
        text.push_str(&line(case, of_metrics(&|metric| cell(case, metric))));
    }
    text
}

pub(crate) fn distinct<'a>(
    figures: &[&'a Figure],
    key: impl Fn(&'a Figure) -> &'a String,
) -> Vec<&'a str> {
    let mut keys: Vec<&str> = Vec::new();
    for figure in figures {
        let key = key(figure).as_str();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Two digits behind the point where they say something.
fn number(value: f64) -> String {
    if value.abs() < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}
