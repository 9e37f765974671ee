//! The seven bytes that open a connection.

/// How every Hadoop RPC connection begins.
pub const MAGIC: [u8; 4] = *b"hrpc";
/// Bytes of the preamble.
pub const PREAMBLE_BYTES: usize = 7;
/// The version of RPC: since Hadoop 2.0 there is no other.
pub const RPC_VERSION: u8 = 9;

/// What a browser on this port is told, instead of silence.
pub const HTTP_ANSWER: &[u8] =
    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
This port speaks Hadoop RPC and gRPC. The web pages of this server are on its HTTP port.\r\n";

/// Whether a connection that begins so is a browser's.
#[must_use]
pub fn looks_like_http(first: [u8; 4]) -> bool {
    matches!(&first, b"GET " | b"POST" | b"PUT " | b"HEAD" | b"DELE" | b"OPTI" | b"CONN" | b"PATC" | b"TRAC")
}

/// How the client wants to say who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Auth {
    /// By its word: the connection context follows.
    Simple,
    /// By SASL: it asks first what the server wants.
    Sasl,
}

/// The client's first word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preamble {
    /// A hint at quality of service. Nothing reads it.
    pub service_class: u8,
    /// How the client wants to authenticate.
    pub auth: Auth,
}

/// Seven bytes that are no preamble.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PreambleError {
    /// Not Hadoop RPC at all.
    #[error("the connection does not begin with `hrpc`")]
    NotHadoop,
    /// A version other than [`RPC_VERSION`].
    #[error("RPC version {0}, where only {RPC_VERSION} is spoken")]
    Version(u8),
    /// Neither simple nor SASL.
    #[error("authentication protocol {0:#04x}, which does not exist")]
    Auth(u8),
}

impl Preamble {
    /// Reads the first bytes of a connection.
    ///
    /// # Errors
    /// What is wrong with them; [`PreambleError::Version`] has an answer, see [`super::bad_version`].
    pub fn parse(bytes: [u8; PREAMBLE_BYTES]) -> Result<Self, PreambleError> {
        let [m0, m1, m2, m3, version, service_class, auth] = bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(PreambleError::NotHadoop);
        }
        if version != RPC_VERSION {
            return Err(PreambleError::Version(version));
        }
        let auth = match auth {
            0 => Auth::Simple,
            0xdf => Auth::Sasl,
            other => return Err(PreambleError::Auth(other)),
        };
        Ok(Self { service_class, auth })
    }
}
