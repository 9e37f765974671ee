//! Hadoop RPC: the connection's first bytes, its frames, the headers of calls and answers, and the steps of SASL.
//!
//! Bytes in, bytes out. A server reads a [`Preamble`], takes frames off its buffer with [`take_frame`], each a
//! [`Request`], and appends answers to a buffer that it writes when it wakes.

mod frame;
mod preamble;
mod request;
mod response;
mod sasl;

pub use frame::{FrameError, LENGTH_BYTES, take_frame};
pub use preamble::{
    Auth, HTTP_ANSWER, MAGIC, PREAMBLE_BYTES, Preamble, PreambleError, RPC_VERSION, looks_like_http,
};
pub use request::{
    CALL_CONTEXT, CALL_PING, CALL_SASL, CLIENT_ID_BYTES, Fatal, Invocation, MAX_CALLER_CONTEXT_BYTES,
    Request, User,
};
pub use response::{
    CallId, MAX_RESPONSE_BYTES, append_error, append_fatal, append_message, append_success, bad_version,
};
pub use sasl::{SaslStep, SaslSteps};

#[cfg(test)]
mod golden_test;
#[cfg(test)]
mod random_test;
