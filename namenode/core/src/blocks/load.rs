//! How much a datanode copies at a time.

/// Copies beyond the streams, if all together are small: a datanode that has waited for orders does not wait again after
/// each of many small blocks.
const MANY: u32 = 64;

/// Copies under way, or ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) copies: u32,
    pub(super) bytes: u64,
}

impl Load {
    pub(super) fn begin(&mut self, bytes: u64) {
        self.copies += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn end(&mut self, bytes: u64) {
        self.copies = self.copies.saturating_sub(1);
        self.bytes = if self.copies == 0 { 0 } else { self.bytes.saturating_sub(bytes) };
    }

    /// Whether there is room for a copy of so many bytes, where so many streams are allowed, and more while all together
    /// are no more than `light` bytes.
    pub(super) const fn has_room(self, bytes: u64, streams: u32, light: u64) -> bool {
        self.copies < streams || (self.copies < MANY && self.bytes.saturating_add(bytes) <= light)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_copies_go_beyond_the_streams_and_large_ones_do_not() {
        let mut load = Load::default();
        assert!(load.has_room(1 << 40, 1, 100) && !load.has_room(1, 0, 0));
        load.begin(60);
        assert!(load.has_room(40, 1, 100) && !load.has_room(41, 1, 100) && load.has_room(41, 2, 100));
        load.begin(0);
        load.end(60);
        assert_eq!(load, Load { copies: 1, bytes: 0 });
        for _ in 0..MANY {
            load.begin(0);
        }
        assert!(!load.has_room(0, 1, 100), "not without end");
        for _ in 0..MANY * 2 {
            load.end(1);
        }
        assert_eq!(load, Load::default());
    }
}
