//! Figures as a picture for the docs.

use std::fmt::Write as _;

use nightgate_lab::Figure;

use crate::table::distinct;

/// Width of the picture, and of what stands left and right of the bars, in pixels.
const WIDTH: f64 = 760.0;
const NAMES: f64 = 260.0;
const VALUES: f64 = 90.0;
/// Height of one bar with the space below it, of a title above bars, and of what is left around everything.
const BAR: f64 = 18.0;
const TITLE: f64 = 30.0;
const MARGIN: f64 = 10.0;

/// An SVG with a group of bars for each metric, one for each case, and a line where the target is. What is measured
/// beside a peer is left out, as in the table.
pub fn plot(figures: &[Figure]) -> String {
    let shown: Vec<&Figure> = figures.iter().filter(|figure| figure.peer.is_none()).collect();
    let mut body = String::new();
    let mut top = MARGIN;
    for metric in distinct(&shown, |figure| &figure.metric) {
        let group: Vec<&Figure> =
            shown.iter().copied().filter(|figure| figure.metric == metric).collect();
        top = bars(&mut body, metric, &group, top);
    }
    let height = top + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Draws the bars of one metric below `top`; where the next ones begin.
fn bars(body: &mut String, metric: &str, group: &[&Figure], top: f64) -> f64 {
    let values = group.iter().flat_map(|figure| [Some(figure.value), figure.target]).flatten();
    let most = values.fold(f64::MIN_POSITIVE, f64::max);
    let length = |value: f64| (WIDTH - NAMES - VALUES - 2.0 * MARGIN) * value.max(0.0) / most;
    let left = MARGIN + NAMES;
    let unit = group.first().map_or("", |figure| &figure.unit);
    text(body, (MARGIN, top + TITLE - 12.0), &format!("{metric}, {unit}"), " font-weight=\"bold\"");
    let mut y = top + TITLE;
    for figure in group {
        let colour = if figure.target.is_some() { "#1f6feb" } else { "#9aa5b1" };
        text(body, (MARGIN, y + 11.0), &figure.case, "");
        let width = length(figure.value);
        let thickness = BAR - 4.0;
        line(
            body,
            format_args!(
                "<rect x=\"{left}\" y=\"{y}\" width=\"{width:.1}\" height=\"{thickness}\" fill=\"{colour}\"/>"
            ),
        );
        text(body, (left + width + 5.0, y + 11.0), &format!("{:.2}", figure.value), "");
        if let Some(target) = figure.target {
            let (x, end) = (left + length(target), y + thickness + 2.0);
            let start = y - 2.0;
            line(
                body,
                format_args!(
                    "<line x1=\"{x:.1}\" y1=\"{start}\" x2=\"{x:.1}\" y2=\"{end}\" stroke=\"#d1242f\" stroke-width=\"2\"/>"
                ),
            );
        }
        y += BAR;
    }
    y
}

fn text(body: &mut String, (x, y): (f64, f64), content: &str, style: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    line(body, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\"{style}>{content}</text>"));
}

fn line(body: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(body, "{element}").expect("a text takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_has_a_bar_of_its_part_of_the_longest() {
        let figure = |case: &str, value, target| Figure {
            suite: "gateway".into(),
            case: case.into(),
            metric: "1 stream".into(),
            value,
            unit: "Gbit/s".into(),
            peer: None,
            target,
            holds: None,
        };
        let beside = Figure { peer: Some("a & b".into()), ..figure("ratio", 0.5, None) };
        let svg = plot(&[figure("a & b", 8.0, None), figure("ours", 4.0, Some(6.0)), beside]);
        let full = WIDTH - NAMES - VALUES - 2.0 * MARGIN;
        assert!(svg.contains("1 stream, Gbit/s") && svg.contains("a &amp; b"), "{svg}");
        assert!(svg.contains(&format!("width=\"{full:.1}\"")), "{svg}");
        assert!(svg.contains(&format!("width=\"{:.1}\"", full / 2.0)), "{svg}");
        assert!(svg.contains(&format!("x1=\"{:.1}\"", MARGIN + NAMES + full * 0.75)), "{svg}");
        assert_eq!(svg.matches("<text").count(), 5, "no line for what is measured beside a peer");
    }
}
