//! Writing: bytes cut into packets, packets through a pipeline of datanodes, and the pipeline mended when one fails.
//!
//! A [`Writer`] is a handle. A task of its own (`streamer`) owns the file: the block being written, the packets not yet
//! acknowledged (`window`), the connection (`pipeline`). It applies one command or one event of the pipeline at a time,
//! so nothing is half done when a caller goes away.

mod create;
mod packetizer;
mod patience;
mod pipeline;
mod recovery;
mod replace;
mod streamer;
mod window;
mod writer;

pub use create::{Append, Create};
pub use replace::Replace;
pub use writer::Writer;
