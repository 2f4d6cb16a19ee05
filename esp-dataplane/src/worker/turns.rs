//! Who is ready, and in which order they have their turns.

use rustix::event::epoll;

use super::listener::Inlet;

/// What an epoll event stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Wake,
    /// A tunnel, and which of its queues.
    Tunnel(usize, usize),
    Listener(usize, Inlet),
}

impl Source {
    pub(super) fn token(self) -> epoll::EventData {
        let (kind, index, queue) = match self {
            Self::Wake => (0, 0, 0),
            Self::Tunnel(index, queue) => (1, index, queue),
            Self::Listener(index, Inlet::Udp) => (2, index, 0),
            Self::Listener(index, Inlet::Esp) => (3, index, 0),
            Self::Listener(index, Inlet::Relay) => (4, index, 0),
        };
        epoll::EventData::new_u64((index as u64) << 16 | (queue as u64) << 8 | kind)
    }

    pub(super) fn of(token: epoll::EventData) -> Self {
        let token = token.u64();
        let index = usize::try_from(token >> 16).unwrap_or(usize::MAX);
        match token & 0xff {
            0 => Self::Wake,
            1 => Self::Tunnel(index, usize::from((token >> 8) as u8)),
            2 => Self::Listener(index, Inlet::Udp),
            3 => Self::Listener(index, Inlet::Esp),
            _ => Self::Listener(index, Inlet::Relay),
        }
    }
}

/// The queues among the sources in the order in which they have their turns. Those that moved
/// trains go last: a packet that comes now and then does not wait for a stream's next
/// super-packet, and the stream hardly notices. Each has one turn all the same.
pub(super) fn arrange(
    turns: &mut Vec<(usize, usize)>,
    sources: impl Iterator<Item = Source> + Clone,
    had_train: impl Fn(usize, usize) -> bool,
) {
    turns.clear();
    for with_train in [false, true] {
        turns.extend(sources.clone().filter_map(|source| match source {
            Source::Tunnel(index, queue) => {
                (had_train(index, queue) == with_train).then_some((index, queue))
            }
            Source::Wake | Source::Listener(..) => None,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_name_their_source() {
        for source in [
            Source::Wake,
            Source::Tunnel(7, 0),
            Source::Tunnel(1000, 255),
            Source::Listener(1000, Inlet::Udp),
            Source::Listener(0, Inlet::Esp),
            Source::Listener(3, Inlet::Relay),
        ] {
            assert_eq!(Source::of(source.token()), source);
        }
    }

    #[test]
    fn queues_with_trains_have_the_last_turns() {
        let sources = [
            Source::Tunnel(0, 5),
            Source::Listener(0, Inlet::Udp),
            Source::Tunnel(0, 2),
            Source::Tunnel(1, 5),
            Source::Wake,
            Source::Tunnel(1, 0),
        ];
        let mut turns = vec![(9, 9)];
        arrange(&mut turns, sources.into_iter(), |index, queue| {
            (index, queue) == (0, 5) || (index, queue) == (1, 5)
        });
        assert_eq!(turns, [(0, 2), (1, 0), (0, 5), (1, 5)]);
    }
}
