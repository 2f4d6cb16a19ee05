//! Every run as a dot on a logarithmic scale of milliseconds, one line a series.

use super::svg::{Anchor, BAD, Canvas, GOOD, OTHER, QUIET, TEXT};

/// One line of dots.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// One value a run, in milliseconds.
    pub values: Vec<f64>,
    /// What the median must be under, in milliseconds.
    pub bar: Option<f64>,
    /// Ours, or what it is compared with.
    pub ours: bool,
}

const WIDTH: f64 = 1000.0;
const LABELS: f64 = 390.0;
const RIGHT: f64 = 90.0;
const LANE: f64 = 40.0;
const HEAD: f64 = 44.0;
/// The scale: from half a millisecond to ten seconds.
const DECADES: (f64, f64) = (-0.301, 4.0);

/// The whole picture.
#[must_use]
pub fn dots(title: &str, series: &[Series]) -> String {
    let bottom = HEAD + LANE * series.len() as f64;
    let mut canvas = Canvas::new(WIDTH, bottom + 40.0);
    canvas.text((10.0, 20.0), Anchor::Start, "black", title);
    for (tick, label) in [
        (1.0, "1 ms"),
        (10.0, "10 ms"),
        (100.0, "100 ms"),
        (1000.0, "1 s"),
        (10_000.0, "10 s"),
    ] {
        let x = place(tick);
        canvas.line((x, HEAD - 8.0), (x, bottom), "#ddd", false);
        canvas.text((x, bottom + 18.0), Anchor::Middle, TEXT, label);
    }
    for (index, one) in series.iter().enumerate() {
        lane(&mut canvas, HEAD + LANE * index as f64, one);
    }
    let legend = "each dot is one run; black: the median; red: what the median must be under";
    canvas.text((LABELS, bottom + 34.0), Anchor::Start, "#777", legend);
    canvas.finish()
}

fn lane(canvas: &mut Canvas, top: f64, series: &Series) {
    let middle = top + LANE / 2.0;
    canvas.line((LABELS, middle), (WIDTH - RIGHT, middle), "#eee", false);
    canvas.text(
        (LABELS - 10.0, middle + 4.0),
        Anchor::End,
        TEXT,
        &series.name,
    );
    let fill = if series.ours { GOOD } else { OTHER };
    for (run, value) in series.values.iter().enumerate() {
        // Runs of equal length are spread out by their number, the same way in every picture.
        let spread = ((run * 7) % 11) as f64 / 11.0 - 0.5;
        let words = format!("run {}: {value:.1} ms", run + 1);
        canvas.dot(
            (place(*value), middle + spread * LANE * 0.6),
            2.5,
            fill,
            &words,
        );
    }
    if let Some(bar) = series.bar {
        let x = place(bar);
        canvas.line((x, top + 4.0), (x, top + LANE - 4.0), BAD, true);
    }
    let mut sorted = series.values.clone();
    sorted.sort_by(f64::total_cmp);
    match sorted.get(sorted.len() / 2) {
        Some(&median) => {
            let x = place(median);
            canvas.rect((x - 1.0, top + 6.0), (2.0, LANE - 12.0), "black");
            let words = if median < 10.0 {
                format!("{median:.1} ms")
            } else {
                format!("{median:.0} ms")
            };
            let at = (WIDTH - RIGHT + 8.0, middle + 4.0);
            canvas.text(at, Anchor::Start, TEXT, &words);
        }
        None => canvas.text((LABELS + 8.0, middle + 4.0), Anchor::Start, QUIET, "no run"),
    }
}

/// The horizontal place of a number of milliseconds.
fn place(ms: f64) -> f64 {
    let (low, high) = DECADES;
    let part = (ms.max(f64::MIN_POSITIVE).log10().clamp(low, high) - low) / (high - low);
    LABELS + part * (WIDTH - LABELS - RIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decade_is_as_wide_as_any_other_and_nothing_leaves_the_picture() {
        let decade = place(10.0) - place(1.0);
        assert!((place(1000.0) - place(100.0) - decade).abs() < 0.01);
        assert!((place(0.0) - LABELS).abs() < 0.01);
        assert!((place(1e9) - (WIDTH - RIGHT)).abs() < 0.01);
    }

    #[test]
    fn every_run_is_a_dot() {
        let series = Series {
            name: "a < b".to_owned(),
            values: vec![3.0, 4.0, 900.0],
            bar: Some(20.0),
            ours: true,
        };
        let svg = dots("title", &[series]);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("a &lt; b") && svg.contains("4.0 ms"));
    }
}
