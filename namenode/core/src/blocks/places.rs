//! The storages of one block, in two bytes each.

/// A storage, by its index among the datanodes' storages: what a replica costs in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StorageIndex(pub u16);

/// How many fit without an allocation: as many as the 16 bytes hold, more than nearly every block has.
const INLINE: usize = 7;

/// A small set of storages, in the order they were added.
#[derive(Clone, Debug)]
pub(super) enum Places {
    Few {
        len: u8,
        at: [StorageIndex; INLINE],
    },
    #[expect(
        clippy::box_collection,
        reason = "a bare Vec would make every block larger for the sake of the rare ones"
    )]
    Many(Box<Vec<StorageIndex>>),
}

impl Default for Places {
    fn default() -> Self {
        Self::Few { len: 0, at: [StorageIndex(0); INLINE] }
    }
}

impl Places {
    pub(super) fn as_slice(&self) -> &[StorageIndex] {
        match self {
            Self::Few { len, at } => &at[..usize::from(*len)],
            Self::Many(places) => places,
        }
    }

    pub(super) fn contains(&self, storage: StorageIndex) -> bool {
        self.as_slice().contains(&storage)
    }

    /// Adds it; false if it was there.
    pub(super) fn insert(&mut self, storage: StorageIndex) -> bool {
        if self.contains(storage) {
            return false;
        }
        match self {
            Self::Few { len, at } if usize::from(*len) < INLINE => {
                at[usize::from(*len)] = storage;
                *len += 1;
            }
            Self::Few { at, .. } => {
                let mut places = at.to_vec();
                places.push(storage);
                *self = Self::Many(Box::new(places));
            }
            Self::Many(places) => places.push(storage),
        }
        true
    }

    /// Takes it away; false if it was not there.
    pub(super) fn remove(&mut self, storage: StorageIndex) -> bool {
        let Some(found) = self.as_slice().iter().position(|place| *place == storage) else {
            return false;
        };
        match self {
            Self::Few { len, at } => {
                at.copy_within(found + 1..usize::from(*len), found);
                *len -= 1;
            }
            Self::Many(places) => {
                places.remove(found);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_block_has_its_places_in_sixteen_bytes() {
        assert_eq!(size_of::<Places>(), 16);
    }

    proptest! {
        #[test]
        fn a_small_set_is_a_set(steps in prop::collection::vec((any::<bool>(), 0_u16..12), 0..60)) {
            let mut places = Places::default();
            let mut model: Vec<StorageIndex> = Vec::new();
            for (add, storage) in steps.into_iter().map(|(add, number)| (add, StorageIndex(number))) {
                if add {
                    prop_assert_eq!(places.insert(storage), !model.contains(&storage));
                    if !model.contains(&storage) { model.push(storage); }
                } else {
                    prop_assert_eq!(places.remove(storage), model.contains(&storage));
                    model.retain(|place| *place != storage);
                }
                prop_assert_eq!(places.as_slice(), &model[..]);
            }
        }
    }
}
