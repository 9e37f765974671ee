//! The bounds of a server.

use std::time::Duration;

/// What one server gives to its connections. The defaults suit a namenode; tests make them small.
#[derive(Clone, Debug)]
pub struct Options {
    /// Turns at a time: a connection needs one while it reads and begins calls. Users get them in turn, so that one with
    /// many connections delays another by one turn. One fewer than there are processors: somebody must hear who else calls.
    pub turns: usize,
    /// Connections at a time; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Calls of one connection that wait for an answer; past it the connection is not read.
    pub max_in_flight: usize,
    /// Bytes of requests that one connection may hold without asking for a share of `shared_bytes`.
    pub own_bytes: usize,
    /// Bytes of requests that all connections together may hold beyond their own.
    pub shared_bytes: usize,
    /// Unsent bytes of answers past which a connection is not read.
    pub max_unsent: usize,
    /// From the first byte to the end of the handshake.
    pub handshake: Duration,
    /// From a frame's first byte to its last; also for a share of `shared_bytes`.
    pub frame: Duration,
    /// For a client that takes no byte of its answers.
    pub write: Duration,
    /// Silence after which a connection without calls is closed. Stock clients close theirs after ten seconds.
    pub idle: Duration,
    /// The same while more than three quarters of `max_connections` are taken.
    pub idle_when_crowded: Duration,
    /// For calls that are being answered when the server is told to stop.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            turns: std::thread::available_parallelism().map_or(1, |count| (count.get() - 1).max(1)),
            max_connections: 10_000,
            max_in_flight: 128,
            own_bytes: 64 << 10,
            shared_bytes: 256 << 20,
            max_unsent: 1 << 20,
            handshake: Duration::from_secs(15),
            frame: Duration::from_secs(60),
            write: Duration::from_secs(60),
            idle: Duration::from_secs(600),
            idle_when_crowded: Duration::from_secs(20),
            grace: Duration::from_secs(5),
        }
    }
}

/// The largest frame before the client has said who it is, in bytes.
pub(crate) const MAX_HANDSHAKE_FRAME_BYTES: usize = 64 << 10;
/// Bytes asked of the socket at a time.
pub(crate) const READ_BYTES: usize = 16 << 10;
/// Calls begun in one turn, before the answers are written and other connections get theirs.
pub(crate) const CALLS_PER_TURN: usize = 8;
/// How often a connection looks at its deadlines at least.
pub(crate) const DEADLINE_CHECK: Duration = Duration::from_secs(20);
/// How long, and for how many bytes, a closing connection listens, so that the client gets to read why.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
/// See [`LINGER`].
pub(crate) const LINGER_BYTES: usize = 1 << 20;
/// How long to wait after accepting failed (no file handles left) before trying again.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Calls of one HTTP/2 connection at a time.
pub(crate) const MAX_STREAMS: u32 = 256;
/// Largest head of a gRPC call in bytes.
pub(crate) const MAX_GRPC_HEAD_BYTES: u32 = 16 << 10;
/// An HTTP/2 connection that is silent for so long is pinged, and closed if it stays silent as long again.
pub(crate) const GRPC_KEEP_ALIVE: Duration = Duration::from_secs(30);
