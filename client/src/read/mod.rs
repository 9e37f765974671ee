//! Reading: which bytes are in which block, which replica gives them, and what comes ahead of time.

mod checksum;
mod locations;
mod range;
mod reader;
mod replica;
mod stream;
mod visible;

pub use checksum::FileChecksum;
pub(crate) use checksum::checksum;
pub use reader::Reader;
pub use stream::FileStream;
