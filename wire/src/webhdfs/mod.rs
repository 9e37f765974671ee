//! WebHDFS as both of its halves speak it: the path and the parameters of a URL, and errors as JSON.

mod attributes;
mod error;
mod query;
mod url;

pub use error::RestError;
pub use query::{MAX_FIELDS, MAX_QUERY_BYTES, Query};
pub use url::{PREFIX, file_url, path, url};

/// Who acts when nobody is named.
pub const ANONYMOUS: &str = "dr.who";
/// Bytes of the buffer that stock clients copy with (`io.file.buffer.size`).
pub const BUFFER_BYTES: u32 = 4_096;
