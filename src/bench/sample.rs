//! What several runs of the same thing say together.

use core::fmt;

use serde::{Deserialize, Serialize};

/// The median of several runs and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// 10 % of the runs lie below; with up to five runs, the lowest.
    pub low: f64,
    /// 10 % of the runs lie above; with up to five runs, the highest.
    pub high: f64,
    /// How many runs.
    pub runs: usize,
}

impl Sample {
    /// Sums up runs; without any, everything is 0.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let Some(last) = values.len().checked_sub(1) else {
            return Self::default();
        };
        let at = |index: usize| values.get(index.min(last)).copied().unwrap_or_default();
        let cut = values.len() / 10;
        Self {
            median: f64::midpoint(at(last / 2), at(values.len() / 2)),
            low: at(cut),
            high: at(last - cut),
            runs: values.len(),
        }
    }

    /// Half the distance from low to high in percent of the median.
    pub(super) fn spread_percent(&self) -> f64 {
        if self.median == 0.0 {
            return 0.0;
        }
        (self.high - self.low) / 2.0 / self.median * 100.0
    }
}

/// Three significant digits and the spread: `12.3 ±4%`.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{} ±{:.0}%", digits(self.median), self.spread_percent());
        f.pad(&text)
    }
}

/// A number with about three significant digits.
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The share of `values`, sorted, that lies below: 0.5 is the median.
pub(super) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * share).round() as usize;
    sorted.get(index.min(last)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_spread_of_few_and_many() {
        assert_eq!(Sample::of([]), Sample::default());
        let five = Sample::of([5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((five.median, five.low, five.high), (3.0, 1.0, 5.0));
        assert_eq!(Sample::of([1.0, 2.0]).median, 1.5);
        let many = Sample::of((0..21).map(f64::from));
        assert_eq!((many.median, many.low, many.high), (10.0, 2.0, 18.0));
    }

    #[test]
    fn display_has_three_digits() {
        assert_eq!(Sample::of([0.5, 0.5]).to_string(), "0.500 ±0%");
        assert_eq!(Sample::of([120.0, 130.0, 140.0]).to_string(), "130 ±8%");
    }

    #[test]
    fn percentiles_of_a_hundred() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
