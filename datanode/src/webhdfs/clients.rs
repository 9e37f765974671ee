//! A client of the namenode for each user lately seen.

use std::collections::VecDeque;

use parking_lot::Mutex;
use steadfs_client::{Client, ClientOptions};
use steadfs_common::FsResult;

/// Users whose clients are kept.
const MAX_CLIENTS: usize = 64;

/// The clients, the one used last at the end.
pub(super) struct Clients {
    url: String,
    known: Mutex<VecDeque<Client>>,
}

impl Clients {
    pub(super) fn new(url: String) -> Self {
        Self { url, known: Mutex::default() }
    }

    /// The client that acts as `user`.
    ///
    /// # Errors
    /// Those of [`Client::connect`].
    pub(super) async fn of(&self, user: &str) -> FsResult<Client> {
        if let Some(known) = self.kept(user) {
            return Ok(known);
        }
        let client = Client::connect_with(&self.url, ClientOptions::for_user(user)).await?;
        // Another request may have made one meanwhile: the older one ends with its last use.
        let mut known = self.known.lock();
        known.retain(|known| known.user() != user);
        if known.len() == MAX_CLIENTS {
            known.pop_front();
        }
        known.push_back(client.clone());
        Ok(client)
    }

    fn kept(&self, user: &str) -> Option<Client> {
        let mut known = self.known.lock();
        let at = known.iter().position(|client| client.user() == user)?;
        let client = known.remove(at)?;
        known.push_back(client.clone());
        Some(client)
    }
}
