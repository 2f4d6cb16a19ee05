//! Everything a probe has seen, and the figures of any part of it.

use std::collections::HashSet;
use std::time::Duration;

/// A packet that came through. Times are since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its number.
    pub number: u64,
    /// When it was sent.
    pub sent: Duration,
    /// When it came in.
    pub at: Duration,
}

/// Everything a probe has seen.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// When each packet was sent, in the order of the numbers.
    pub sent: Vec<Duration>,
    /// What came, in the order of arrival.
    pub arrivals: Vec<Arrival>,
}

/// What became of the packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumberedReport {
    /// Packets sent.
    pub sent: u64,
    /// Different packets received.
    pub received: u64,
    /// Packets received more than once.
    pub duplicates: u64,
    /// Packets that a later one had overtaken.
    pub reordered: u64,
    /// Longest time between two arrivals.
    pub longest_gap: Duration,
    /// The number after which the longest gap came.
    pub gap_after: u64,
    /// When the longest gap began, since the Unix epoch.
    pub gap_at: Duration,
    /// Longest time that a packet took.
    pub slowest: Duration,
    /// Longest time between two packets sent: a gap of this length is the machine's fault.
    pub sender_pause: Duration,
}

impl NumberedReport {
    /// Packets that never came.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

impl Trace {
    /// The figures of the whole.
    #[must_use]
    pub fn report(&self) -> NumberedReport {
        self.between(Duration::ZERO, Duration::MAX)
    }

    /// The figures of the packets that were sent from `from` up to `to`, wherever they arrived.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> NumberedReport {
        let sent: Vec<_> = self
            .sent
            .iter()
            .filter(|at| (from..to).contains(*at))
            .collect();
        let mut report = NumberedReport {
            sent: sent.len() as u64,
            sender_pause: longest(sent.iter().copied()).map_or(Duration::ZERO, |(_, gap)| gap),
            ..NumberedReport::default()
        };
        let mut seen = HashSet::new();
        let mut highest = None;
        let inside = |arrival: &&Arrival| (from..to).contains(&arrival.sent);
        let arrivals: Vec<_> = self.arrivals.iter().filter(inside).collect();
        for arrival in &arrivals {
            if seen.insert(arrival.number) {
                report.received += 1;
            } else {
                report.duplicates += 1;
            }
            if highest.is_some_and(|highest| arrival.number < highest) {
                report.reordered += 1;
            }
            highest = highest.max(Some(arrival.number));
            report.slowest = report.slowest.max(arrival.at.saturating_sub(arrival.sent));
        }
        if let Some((index, gap)) = longest(arrivals.iter().map(|arrival| &arrival.at))
            && let Some(before) = arrivals.get(index)
        {
            report.longest_gap = gap;
            report.gap_after = before.number;
            report.gap_at = before.at;
        }
        report
    }

    /// Numbers of the packets that never came, in order.
    #[must_use]
    pub fn missing(&self) -> Vec<u64> {
        let came: HashSet<_> = self.arrivals.iter().map(|arrival| arrival.number).collect();
        (0..self.sent.len() as u64)
            .filter(|number| !came.contains(number))
            .collect()
    }

    /// How many packets came in since a moment; looks at the newest only.
    #[must_use]
    pub fn arrived_since(&self, from: Duration) -> usize {
        let newest = self.arrivals.iter().rev();
        newest.take_while(|arrival| arrival.at >= from).count()
    }
}

/// The longest distance between neighbours, and the index of the first of the two.
fn longest<'a>(times: impl Iterator<Item = &'a Duration> + Clone) -> Option<(usize, Duration)> {
    let pairs = times.clone().zip(times.skip(1));
    pairs
        .map(|(before, after)| after.saturating_sub(*before))
        .enumerate()
        .max_by_key(|(index, gap)| (*gap, std::cmp::Reverse(*index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn trace() -> Trace {
        let arrival = |number, at| Arrival {
            number,
            sent: ms(100 + number),
            at: ms(at),
        };
        Trace {
            sent: (0..7).map(|number| ms(100 + number)).collect(),
            arrivals: vec![
                arrival(0, 101),
                arrival(2, 102),
                arrival(1, 103),
                arrival(2, 104),
                arrival(5, 141),
            ],
        }
    }

    #[test]
    fn loss_doubles_order_and_gap_are_told_apart() {
        let report = trace().report();
        assert_eq!((report.sent, report.received, report.lost()), (7, 4, 3));
        assert_eq!((report.duplicates, report.reordered), (1, 1));
        assert_eq!(report.longest_gap, ms(37));
        assert_eq!((report.gap_after, report.gap_at), (2, ms(104)));
        assert_eq!(report.slowest, ms(36));
        assert_eq!(report.sender_pause, ms(1));
        assert_eq!(trace().missing(), [3, 4, 6]);
    }

    #[test]
    fn a_part_counts_what_was_sent_in_it() {
        let report = trace().between(ms(102), ms(104));
        assert_eq!((report.sent, report.received, report.duplicates), (2, 1, 1));
        assert_eq!(report.longest_gap, ms(2));
    }

    #[test]
    fn nothing_sent_is_nothing_lost() {
        let report = Trace::default().report();
        assert_eq!(report, NumberedReport::default());
        assert_eq!(trace().arrived_since(ms(104)), 2);
    }
}
