//! What the project asks of its own figures. A bar is a ratio within one run wherever it can
//! be, so that it holds on any machine.

use serde::{Deserialize, Serialize};

use super::core::CoreFigures;
use super::crypto::CryptoFigures;
use super::path::Contender::{
    Boringtun, Gotatun, Kernel, Null, StaticEspRaw, StaticSpin, Strongswan, Vipsec, VipsecEsp,
};
use super::path::{Contender, PathFigures, Pick, Wan, pick};
use super::sample::Sample;

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
            ("aes128gcm16" | "aes256gcm16", 1400) => Some(0.9),
            ("aes128gcm16" | "aes256gcm16", 64) => Some(0.7),
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
        // The bars are about ring; a faster library beside it has a longer way to its own call.
        if let Some(wanted) = wanted.filter(|_| row.library.as_deref() == Some("ring")) {
            for (way, side) in [("seal", &row.seal), ("open", &row.open)] {
                let what = "of the bare ring call";
                bars.push(Bar::at_least(what, at(way), wanted, side.of_bare.median));
            }
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

/// Whole tunnels; only what was measured in this run is compared.
pub(super) fn path(figures: &PathFigures) -> Vec<Bar> {
    let mut asked = Asked {
        figures,
        bars: Vec::new(),
    };
    let plain = [(Strongswan, 14.0), (Gotatun, 7.0), (Boringtun, 13.0)];
    asked.one_stream(Wan::Plain, &plain, 3.0);
    asked.one_stream(Wan::Gro, &[(Strongswan, 11.0), (Gotatun, 5.0)], 5.3);
    asked.one_stream(Wan::NoGro, &[(Strongswan, 6.0), (Gotatun, 3.0)], 7.5);
    asked.streams();
    asked.udp("UDP 64 bytes", pick::udp64, pick::udp64_cpu);
    asked.udp("UDP 1400 bytes", pick::udp1400, pick::udp1400_cpu);
    asked.round_trips();
    asked.bars
}

/// Collects the bars whose figures were measured.
struct Asked<'a> {
    figures: &'a PathFigures,
    bars: Vec<Bar>,
}

impl Asked<'_> {
    /// Speed beside others and processor time of one TCP stream.
    fn one_stream(&mut self, wan: Wan, others: &[(Contender, f64)], cpu: f64) {
        let at = format!("1 stream, {wan}");
        for (other, factor) in others {
            let ratio = self
                .figures
                .ratio(wan, (Vipsec, pick::tcp), (*other, pick::tcp));
            self.least(&format!("times {other}"), &at, *factor, ratio);
        }
        let used = self.figures.of(wan, Vipsec, pick::tcp_cpu);
        self.most("CPU-s/GB", &at, cpu, used);
    }

    /// Bars on the plain WAN beside ourselves, and protocol 50.
    fn streams(&mut self) {
        let ceiling = self.plain((Vipsec, pick::tcp), (Null, pick::tcp));
        self.least("of no cipher", "1 stream, plain veth", 0.9, ceiling);
        let four = self.plain((Vipsec, pick::tcp4), (Vipsec, pick::tcp));
        self.least("of 1 stream", "4 streams, plain veth", 1.1, four);
        let both = self.plain((Vipsec, pick::both), (Vipsec, pick::tcp));
        self.least("of 1 stream", "both ways, plain veth", 1.1, both);
        let fifty = self.plain((VipsecEsp, pick::tcp), (Strongswan, pick::tcp));
        self.least("times strongSwan", "protocol 50, plain veth", 5.0, fifty);
        let raw = self.plain((VipsecEsp, pick::tcp_cpu), (StaticEspRaw, pick::tcp_cpu));
        self.most("CPU of raw sockets", "protocol 50, plain veth", 0.7, raw);
    }

    fn udp(&mut self, at: &str, rate: Pick, cpu: Pick) {
        let used = self.figures.of(Wan::Plain, Vipsec, cpu);
        self.most("µs CPU per packet", at, 14.0, used);
        for (other, factor) in [(Strongswan, 4.0), (Gotatun, 2.0)] {
            let ratio = self.plain((Vipsec, rate), (other, rate));
            self.least(&format!("times {other}"), at, factor, ratio);
        }
    }

    fn round_trips(&mut self) {
        let kernel: (Contender, Pick) = (Kernel, pick::idle_p50);
        let idle = self.plain((Vipsec, pick::idle_p50), kernel);
        self.most("times kernel routing", "idle p50", 4.0, idle);
        let spinning = self.plain((StaticSpin, pick::idle_p50), kernel);
        self.most("times kernel routing", "idle p50, spinning", 2.5, spinning);
        let loaded = self.plain((Vipsec, pick::loaded_p99), (Strongswan, pick::idle_p99));
        self.most("of strongSwan's idle p99", "loaded p99", 1.0, loaded);
    }

    fn plain(&self, over: (Contender, Pick), under: (Contender, Pick)) -> Sample {
        self.figures.ratio(Wan::Plain, over, under)
    }

    fn least(&mut self, what: &str, at: &str, wanted: f64, measured: Sample) {
        if measured.runs > 0 {
            let bar = Bar::at_least(what, at.to_owned(), wanted, measured.median);
            self.bars.push(bar);
        }
    }

    fn most(&mut self, what: &str, at: &str, wanted: f64, measured: Sample) {
        if measured.runs > 0 {
            let bar = Bar::at_most(what, at.to_owned(), wanted, measured.median);
            self.bars.push(bar);
        }
    }
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
