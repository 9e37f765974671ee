//! Listening.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

/// How long an address that is in use is tried, and how often: a child that this process is starting has what it listened on
/// until its exec, and a process that was killed until it is gone.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Why an address cannot be listened on. Its text names the address and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error(
        "address {address} is in use: stop the process that listens there, or choose another with {setting} (port 0 takes any free one)"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// The option or key that chooses it.
        setting: String,
    },
    /// The address is not this machine's, or this user may not have the port.
    #[error("cannot listen on {address} (chosen with {setting}): {source}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The option or key that chooses it.
        setting: String,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Listens on `address`; errors tell the operator to change `setting` (`--port`, `rpc_listen`, …).
///
/// # Errors
/// The address is taken, or is not this process's to take.
pub async fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener, BindError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let setting = setting.to_owned();
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(BindError::Refused { address, setting, source: error });
            }
            Err(_) if Instant::now() >= until => return Err(BindError::InUse { address, setting }),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_remedy() {
        let first = listen(([127, 0, 0, 1], 0).into(), "--port").await.unwrap();
        let address = first.local_addr().unwrap();
        let error = listen(address, "--port").await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("address {address} is in use: ")) && error.contains("--port"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        let error = listen(([192, 0, 2, 1], 0).into(), "rpc_listen").await.unwrap_err().to_string();
        assert!(error.contains("192.0.2.1") && error.contains("rpc_listen"), "{error}");
    }
}
