//! ICMP echo, by the system's `ping`.

use std::net::IpAddr;
use std::time::Duration;

use crate::LabError;
use crate::lab::Host;

/// An ICMP echo train in the making.
#[derive(Debug, Clone)]
pub struct Ping {
    destination: IpAddr,
    count: u32,
    size: usize,
    interval: Duration,
    do_not_fragment: bool,
}

/// What `ping` counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PingReport {
    /// Echo requests sent.
    pub sent: u32,
    /// Answers received, duplicates not counted.
    pub received: u32,
    /// Mean round-trip time in milliseconds; 0 without an answer.
    pub mean_ms: f64,
}

impl PingReport {
    /// Every request was answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sent == self.received && self.sent > 0
    }
}

impl Ping {
    /// Three requests of 56 bytes, 20 ms apart.
    #[must_use]
    pub fn to(destination: IpAddr) -> Self {
        Self {
            destination,
            count: 3,
            size: 56,
            interval: Duration::from_millis(20),
            do_not_fragment: false,
        }
    }

    /// How many requests.
    #[must_use]
    pub fn count(self, count: u32) -> Self {
        Self { count, ..self }
    }

    /// ICMP payload bytes in each; more than the MTU makes fragments.
    #[must_use]
    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Sets the don't-fragment bit.
    #[must_use]
    pub fn do_not_fragment(self) -> Self {
        Self {
            do_not_fragment: true,
            ..self
        }
    }

    /// Sends from `host` and counts.
    ///
    /// # Errors
    /// When `ping` cannot run. Lost answers are not an error.
    pub fn from(&self, host: &Host) -> Result<PingReport, LabError> {
        // Left to itself, ping forbids fragments and learns the path's MTU by losing the first.
        let df = if self.do_not_fragment { "do" } else { "dont" };
        let words = format!(
            "ping -n -q -W 3 -i {} -c {} -s {} -M {df} {}",
            self.interval.as_secs_f32(),
            self.count,
            self.size,
            self.destination
        );
        let output = host.attempt(&words)?;
        if output.stderr.contains("Network is unreachable") {
            return Ok(PingReport {
                sent: self.count,
                received: 0,
                mean_ms: 0.0,
            });
        }
        parse(&output.text()).ok_or_else(|| LabError::unreadable("ping", &output.text()))
    }

    /// One request at a time until one is answered.
    ///
    /// # Errors
    /// [`LabError::Timeout`] when none is within `patience`.
    pub fn until_answered(&self, host: &Host, patience: Duration) -> Result<(), LabError> {
        let once = self.clone().count(1);
        let what = format!("an answer from {} to {}", self.destination, host.name());
        crate::lab::wait_for(&what, patience, || {
            let report = once.from(host)?;
            Ok(report.is_complete().then_some(()))
        })
    }
}

/// `3 packets transmitted, 3 received, …` and `rtt min/avg/max/mdev = 0.1/0.2/…`.
fn parse(text: &str) -> Option<PingReport> {
    let summary = text.lines().find(|line| line.contains("transmitted"))?;
    let mut counts = summary.split(", ").map(|part| {
        part.split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
    });
    let sent = counts.next()??;
    let received = counts.next()??;
    let mean_ms = text
        .lines()
        .find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "))
        .and_then(|values| values.split('/').nth(1))
        .and_then(|mean| mean.parse().ok())
        .unwrap_or(0.0);
    Some(PingReport {
        sent,
        received,
        mean_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_iputils_prints() {
        let text = "PING 10.2.0.2\n\n--- 10.2.0.2 ping statistics ---\n\
                    3 packets transmitted, 2 received, 33% packet loss, time 40ms\n\
                    rtt min/avg/max/mdev = 0.030/0.042/0.060/0.013 ms\n";
        let report = parse(text).unwrap();
        assert_eq!((report.sent, report.received), (3, 2));
        assert!((report.mean_ms - 0.042).abs() < 1e-9);
        assert!(!report.is_complete());
    }

    #[test]
    fn errors_do_not_shift_the_counts() {
        let text = "1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms\n";
        assert_eq!(parse(text).map(|r| (r.sent, r.received)), Some((1, 0)));
    }
}
