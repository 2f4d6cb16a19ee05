//! What the project asks of its own figures. A bar is a ratio within one run wherever it can
//! be, so that it holds on any machine.

use serde::{Deserialize, Serialize};

use super::core::CoreFigures;
use super::crypto::CryptoFigures;

/// One bar and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// The figure.
    pub what: String,
    /// Where: suite, size, condition.
    pub at: String,
    /// The bar.
    pub wanted: f64,
    /// True when more is better.
    pub at_least: bool,
    /// The median of this run.
    pub measured: f64,
}

impl Bar {
    pub(super) fn at_least(what: &str, at: String, wanted: f64, measured: f64) -> Self {
        Self {
            what: what.to_owned(),
            at,
            wanted,
            at_least: true,
            measured,
        }
    }

    pub(super) fn at_most(what: &str, at: String, wanted: f64, measured: f64) -> Self {
        Self {
            at_least: false,
            ..Self::at_least(what, at, wanted, measured)
        }
    }

    /// True when the median is on the right side.
    #[must_use]
    pub fn is_met(&self) -> bool {
        if self.at_least {
            self.measured >= self.wanted
        } else {
            self.measured <= self.wanted
        }
    }
}

/// AES-128/256-GCM near the bare call; AES-256-CBC + SHA-256 sealing well above it, because
/// packets are interleaved.
pub(super) fn crypto(figures: &CryptoFigures) -> Vec<Bar> {
    let mut bars = Vec::new();
    for row in &figures.rows {
        let at = |way: &str| format!("{}, {} bytes, {way}", row.suite, row.size);
        let wanted = match (row.suite.as_str(), row.size) {
            ("aes128gcm16" | "aes256gcm16", 1400) => Some((0.9, "of the bare ring call")),
            ("aes128gcm16" | "aes256gcm16", 64) => Some((0.7, "of the bare ring call")),
            ("aes256-sha256", 1400) => {
                let plain = "of the plain cbc + hmac crates";
                bars.push(Bar::at_least(
                    plain,
                    at("seal"),
                    1.6,
                    row.seal.of_bare.median,
                ));
                None
            }
            _ => None,
        };
        if let Some((wanted, what)) = wanted {
            bars.push(Bar::at_least(
                what,
                at("seal"),
                wanted,
                row.seal.of_bare.median,
            ));
            bars.push(Bar::at_least(
                what,
                at("open"),
                wanted,
                row.open.of_bare.median,
            ));
        }
    }
    bars
}

/// Memory of a thousand SAs.
pub(super) fn core(figures: &CoreFigures) -> Vec<Bar> {
    let mib = figures.thousand_sas_kib as f64 / 1024.0;
    let what = "MiB for 1000 SA pairs";
    vec![Bar::at_most(what, "data plane".to_owned(), 64.0, mib)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_a_direction() {
        assert!(Bar::at_least("x", String::new(), 0.9, 0.91).is_met());
        assert!(!Bar::at_least("x", String::new(), 0.9, 0.89).is_met());
        assert!(Bar::at_most("x", String::new(), 64.0, 3.0).is_met());
        assert!(!Bar::at_most("x", String::new(), 64.0, 65.0).is_met());
    }
}
