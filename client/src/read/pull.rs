//! Reading a file in order, by whoever wants the bytes.

use bytes::Bytes;
use steadfs_common::FsResult;

use super::range::RangeReader;
use super::reader::Reader;

/// A file read in order with no task of its own: [`next_chunk`](Self::next_chunk) takes what its connection has, so that the
/// processor that received the bytes is the one that uses them. What comes ahead waits in the connection. A call that is dropped
/// half way does no harm.
pub struct PulledStream {
    reader: Reader,
    position: u64,
    range: Option<RangeReader>,
}

impl PulledStream {
    pub(super) fn new(reader: Reader, position: u64) -> Self {
        Self { reader, position, range: None }
    }

    /// Where the next byte comes from.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes, as many as came together; `None` at the end.
    ///
    /// # Errors
    /// As [`Reader::read_at`]; the next call tries again at the same place.
    pub async fn next_chunk(&mut self) -> FsResult<Option<Bytes>> {
        loop {
            if self.range.is_none() {
                self.range = self.reader.range_from(self.position).await?;
            }
            let Some(range) = &mut self.range else { return Ok(None) };
            let next = range.next().await;
            if !matches!(next, Ok(Some(_))) {
                self.range = None;
            }
            match next? {
                Some(bytes) => {
                    self.position += bytes.len() as u64;
                    self.finish_early();
                    return Ok(Some(bytes));
                }
                None => continue,
            }
        }
    }

    /// A part that has been read is ended at once: nobody may ask for more.
    fn finish_early(&mut self) {
        if let Some(mut range) = self.range.take_if(|range| range.is_read()) {
            tokio::spawn(async move { range.next().await.map(drop) });
        }
    }
}
