//! The figures as a picture: horizontal bars, one group for each condition.

use core::fmt::Write as _;

use super::path::{Contender, PathFigures, Pick, Wan, pick};
use super::report::Report;
use super::sample::digits;

const WIDTH: f64 = 860.0;
const LABELS: f64 = 230.0;
const BAR: f64 = 18.0;
const GAP: f64 = 5.0;
const HEAD: f64 = 30.0;

/// One group of bars on a scale of its own.
struct Group {
    title: String,
    bars: Vec<(String, f64)>,
}

/// A whole SVG file.
pub(super) fn draw(report: &Report) -> String {
    let mut groups = Vec::new();
    if let Some(crypto) = &report.crypto {
        let rows = crypto.rows.iter().filter(|row| row.size == 1400);
        groups.push(Group {
            title: "Seal, 1400 bytes, one core, Gbit/s".to_owned(),
            bars: rows
                .map(|row| (row.suite.clone(), row.seal.gbit_s))
                .collect(),
        });
    }
    if let Some(core) = &report.core {
        let rows = core.rows.iter();
        groups.push(Group {
            title: "Pipeline in memory, both gateways on one core, Gbit/s".to_owned(),
            bars: rows
                .map(|row| {
                    (
                        format!("{} / {}", short(&row.traffic), row.protection),
                        row.gbit_s,
                    )
                })
                .collect(),
        });
    }
    if let Some(path) = &report.path {
        groups.extend(of_path(path));
    }
    groups.retain(|group| !group.bars.is_empty());
    page(&groups, &report.machine.to_string())
}

fn short(traffic: &str) -> &str {
    traffic.split(", ").next().unwrap_or(traffic)
}

fn of_path(path: &PathFigures) -> Vec<Group> {
    let group = |title: String, wan: Wan, pick: Pick| Group {
        title,
        bars: path
            .contenders(wan)
            .into_iter()
            .map(|contender: Contender| (contender, path.of(wan, contender, pick)))
            .filter(|(_, sample)| sample.runs > 0)
            .map(|(contender, sample)| (contender.to_string(), sample.median))
            .collect(),
    };
    let mut groups = Vec::new();
    for wan in Wan::ALL {
        groups.push(group(
            format!("1 TCP stream, {wan}, Gbit/s"),
            wan,
            pick::tcp,
        ));
        let title = format!("1 TCP stream, {wan}, CPU-seconds per GB of both gateways");
        groups.push(group(title, wan, pick::tcp_cpu));
    }
    let title = "UDP, 64 bytes, thousands of packets per second".to_owned();
    groups.push(group(title, Wan::Plain, pick::udp64));
    let title = "Round trip through the idle tunnel, median, microseconds".to_owned();
    groups.push(group(title, Wan::Plain, pick::idle_p50));
    groups
}

fn page(groups: &[Group], machine: &str) -> String {
    let rows: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = HEAD * (groups.len() as f64 + 2.0) + (BAR + GAP) * rows as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut y = HEAD;
    text(&mut svg, 10.0, y, "start", "#777", machine);
    for group in groups {
        y += HEAD;
        text(&mut svg, 10.0, y, "start", "black", &group.title);
        y += GAP;
        let longest = group.bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
        for (label, value) in &group.bars {
            let length = value / longest.max(f64::MIN_POSITIVE) * (WIDTH - LABELS - 80.0);
            let fill = if label.starts_with("vipsec") {
                "#2a6f97"
            } else {
                "#a9b4c2"
            };
            // Writing to a String cannot fail.
            let _always_ok = writeln!(
                svg,
                "<rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" \
                 fill=\"{fill}\"/>"
            );
            let middle = y + BAR * 0.72;
            text(&mut svg, LABELS - 8.0, middle, "end", "#333", label);
            text(
                &mut svg,
                LABELS + length + 6.0,
                middle,
                "start",
                "#333",
                &digits(*value),
            );
            y += BAR + GAP;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, fill: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    // Writing to a String cannot fail.
    let _always_ok = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_its_group_and_words_are_escaped() {
        let group = Group {
            title: "a < b & c".to_owned(),
            bars: vec![("x".to_owned(), 2.0), ("y".to_owned(), 1.0)],
        };
        let svg = page(&[group], "machine");
        assert!(svg.contains("a &lt; b &amp; c"));
        assert!(svg.contains("width=\"550.0\"") && svg.contains("width=\"275.0\""));
    }
}
