//! Reading: which bytes are in which block, which replica gives them, and what comes ahead of time.

mod checksum;
mod locations;
mod pull;
mod range;
mod reader;
mod replica;
mod stream;
mod visible;

pub use checksum::FileChecksum;
pub(crate) use checksum::checksum;
pub use pull::PulledStream;
pub use reader::Reader;
pub use stream::FileStream;
