//! Remembers the message ids that an IKE SA has used up, for its whole life.

use std::collections::BTreeSet;

use crate::wire::MessageId;

/// Ids kept per IKE SA. A peer that probes every second for 8 hours uses 28,800; past the
/// cap the SA is due for replacement (its rekey is brought forward), and new exchanges of the
/// peer are refused, because forgetting an id would let it be replayed.
const CAPACITY: usize = 32_768;

/// Every message id seen from the peer or used by us under one IKE SA. A replayed quick mode
/// or informational carries an id that is in here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UsedMessageIds(BTreeSet<u32>);

impl UsedMessageIds {
    /// True when the id is new and there is room for it; it is used up from now on. To be
    /// called only once the message has proved to be authentic.
    pub(crate) fn commit(&mut self, id: MessageId) -> bool {
        self.0.len() < CAPACITY && self.0.insert(id.0)
    }

    /// True when the id is used up.
    pub(crate) fn contains(&self, id: MessageId) -> bool {
        self.0.contains(&id.0)
    }

    /// True when the SA should be replaced before the memory is full.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.0.len() >= CAPACITY / 4 * 3
    }

    pub(crate) fn export(&self) -> Vec<u32> {
        self.0.iter().copied().collect()
    }

    pub(crate) fn import(ids: &[u32]) -> Option<Self> {
        (ids.len() <= CAPACITY).then(|| Self(ids.iter().copied().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_used_once() {
        let mut ids = UsedMessageIds::default();
        assert!(ids.commit(MessageId(7)));
        assert!(!ids.commit(MessageId(7)));
        assert!(ids.contains(MessageId(7)) && !ids.contains(MessageId(8)));
        assert_eq!(UsedMessageIds::import(&ids.export()), Some(ids));
    }

    #[test]
    fn a_full_memory_refuses_instead_of_forgetting() {
        let mut ids = UsedMessageIds::default();
        for id in 0..u32::try_from(CAPACITY).unwrap() {
            assert!(ids.commit(MessageId(id)));
        }
        assert!(ids.is_nearly_full());
        assert!(!ids.commit(MessageId(u32::MAX)));
        assert!(ids.contains(MessageId(0)));
    }
}
