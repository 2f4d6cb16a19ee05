//! Remembers the message ids that an IKE SA has used up, for its whole life.

use std::collections::BTreeSet;

use crate::wire::MessageId;

/// Ids kept per IKE SA, ours and the peer's. Probes every 10 s with their answers use 5,760 in
/// 8 hours. Long before the cap the SA is due for replacement (its rekey is brought forward);
/// at the cap new exchanges of the peer are refused, because forgetting an id would let it be
/// replayed. The cap also bounds what a standby has to be told: see [`UsedMessageIds::export`].
const CAPACITY: usize = 12_288;

/// Every message id seen from the peer or used by us under one IKE SA. A replayed quick mode
/// or informational carries an id that is in here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UsedMessageIds {
    ids: BTreeSet<u32>,
    /// The ids did not come along when the SA moved to this node: nothing new is accepted.
    sealed: bool,
}

impl UsedMessageIds {
    /// True when the id is new and there is room for it; it is used up from now on. To be
    /// called only once the message has proved to be authentic.
    pub(crate) fn commit(&mut self, id: MessageId) -> bool {
        !self.sealed && self.ids.len() < CAPACITY && self.ids.insert(id.0)
    }

    /// True when the id is used up, or may be.
    pub(crate) fn contains(&self, id: MessageId) -> bool {
        self.sealed || self.ids.contains(&id.0)
    }

    /// True when the SA should be replaced before the memory is full.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.sealed || self.ids.len() >= CAPACITY / 4 * 3
    }

    /// The ids in rising order, each as its distance from the one before: in a format that
    /// writes small numbers short (postcard does) most take 3 bytes instead of 5. `None` when
    /// they are not known.
    pub(crate) fn export(&self) -> Option<Vec<u32>> {
        let mut before = 0;
        let distance = |id: &u32| id - core::mem::replace(&mut before, *id);
        (!self.sealed).then(|| self.ids.iter().map(distance).collect())
    }

    /// The most bytes that [`UsedMessageIds::export`] takes in postcard: the distances add up
    /// to less than 2^32, so at most 2,048 of them need more than 3 bytes.
    pub(crate) fn exported_len(distances: &[u32]) -> usize {
        3 * distances.len() + 2 * distances.len().min(2048) + 3
    }

    /// `None` when the ids cannot be those of one SA.
    pub(crate) fn import(distances: Option<&[u32]>) -> Option<Self> {
        let Some(distances) = distances else {
            return Some(Self {
                ids: BTreeSet::new(),
                sealed: true,
            });
        };
        if distances.len() > CAPACITY {
            return None;
        }
        let mut ids = BTreeSet::new();
        let mut before = 0_u32;
        for distance in distances {
            before = before.checked_add(*distance)?;
            ids.insert(before);
        }
        Some(Self { ids, sealed: false })
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
    }

    #[test]
    fn ids_move_to_another_node() {
        let mut ids = UsedMessageIds::default();
        for id in [u32::MAX, 7, 0, 1 << 31] {
            assert!(ids.commit(MessageId(id)));
        }
        let exported = ids.export().unwrap();
        assert_eq!(UsedMessageIds::import(Some(&exported)), Some(ids));
        assert_eq!(UsedMessageIds::import(Some(&[u32::MAX, 1])), None);
        assert_eq!(UsedMessageIds::import(Some(&vec![1; CAPACITY + 1])), None);
    }

    #[test]
    fn ids_that_did_not_come_along_let_nothing_in() {
        let mut ids = UsedMessageIds::import(None).unwrap();
        assert!(ids.contains(MessageId(7)) && !ids.commit(MessageId(7)));
        assert!(ids.is_nearly_full(), "so a successor is due");
        assert_eq!(ids.export(), None);
    }

    #[test]
    fn the_longest_export_is_as_long_as_computed() {
        // As many distances of 4 bytes as fit, the rest of 3: nothing is longer.
        let long = vec![(1 << 21) - 1; CAPACITY - 2000];
        let far = vec![1 << 21; 2000];
        for distances in [long.clone(), [far, long[..100].to_vec()].concat()] {
            let bytes = postcard::to_stdvec(&distances).unwrap();
            let bound = UsedMessageIds::exported_len(&distances);
            assert!(bytes.len() <= bound, "{} > {bound}", bytes.len());
        }
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
