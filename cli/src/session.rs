//! Which cluster a path is on, and what it stands for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use steadfs_client::{Client, ClientOptions, FsErrorKind, FsUrl};
use steadfs_daemon::pool::DiskPool;
use tokio::sync::Mutex;

use crate::args::{Connection, DEFAULT_URL};
use crate::failure::{Failure, Outcome};
use crate::glob::{self, Component};
use crate::out::Out;
use crate::transfer::Temporaries;

/// A person who mistyped an address wants to know soon; a script says `--connect-timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two attempts of who waits.
const CONNECT_AGAIN: Duration = Duration::from_millis(500);
/// Threads for local files and standard output, and jobs that wait for them.
const LOCAL_THREADS: usize = 4;
const LOCAL_QUEUE: usize = 64;
/// Paths that one glob may stand for at most.
const MAX_MATCHES: usize = 1_000_000;

/// One run of the program.
pub(crate) struct Session {
    url: FsUrl,
    options: ClientOptions,
    /// How long a namenode that does not answer is tried.
    wait: Duration,
    clients: Mutex<HashMap<FsUrl, Client>>,
    /// Threads that may block: local files and standard output.
    pub(crate) pool: DiskPool,
    /// Files that are not yet whole.
    pub(crate) temporaries: Temporaries,
}

/// A path and the cluster it is on.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) client: Client,
    pub(crate) path: String,
}

impl Remote {
    /// The entry `name` of this folder.
    pub(crate) fn join(&self, name: &str) -> Self {
        Self { client: self.client.clone(), path: join(&self.path, name) }
    }

    /// The last component; empty for the root.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is a folder; `None` if nothing is there.
    pub(crate) async fn is_folder(&self) -> Outcome<Option<bool>> {
        match self.client.stat(&self.path).await {
            Ok(status) => Ok(Some(status.directory)),
            Err(error) if matches!(error.kind(), FsErrorKind::NotFound | FsErrorKind::ParentNotDirectory) => {
                Ok(None)
            }
            Err(error) => Err(Failure::at(&self.path)(error)),
        }
    }
}

/// `folder/name`.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.ends_with('/') { format!("{folder}{name}") } else { format!("{folder}/{name}") }
}

impl Session {
    pub(crate) fn new(connection: &Connection) -> Outcome<Self> {
        let url = connection.fs.as_deref().filter(|url| !url.is_empty()).unwrap_or(DEFAULT_URL);
        let url = url.parse().map_err(|error: steadfs_client::FsError| Failure::usage(error.message()))?;
        let base = match &connection.user {
            Some(user) if !user.is_empty() => ClientOptions::for_user(user),
            _ => ClientOptions::default(),
        };
        // A namenode that is only just starting is waited for.
        let options = ClientOptions { connect_timeout: CONNECT_TIMEOUT, wait_for_start: true, ..base };
        let pool = DiskPool::new("local", LOCAL_THREADS, LOCAL_QUEUE)
            .map_err(|error| Failure::Other(format!("no threads for local files: {error}")))?;
        Ok(Self {
            url,
            options,
            wait: connection.connect_timeout,
            clients: Mutex::default(),
            pool,
            temporaries: Temporaries::default(),
        })
    }

    pub(crate) fn out(&self) -> Out {
        Out::new(self.pool.clone())
    }

    /// The client of the default cluster.
    pub(crate) async fn client(&self) -> Outcome<Client> {
        self.client_of(&self.url).await
    }

    async fn client_of(&self, url: &FsUrl) -> Outcome<Client> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(url) {
            return Ok(client.clone());
        }
        let client = self.connect(url).await?;
        clients.insert(url.clone(), client.clone());
        Ok(client)
    }

    async fn connect(&self, url: &FsUrl) -> Outcome<Client> {
        let begun = Instant::now();
        loop {
            match Client::connect_with(&url.to_string(), self.options.clone()).await {
                Err(error)
                    if matches!(error.kind(), FsErrorKind::Unreachable | FsErrorKind::Timeout)
                        && begun.elapsed() < self.wait =>
                {
                    tokio::time::sleep(CONNECT_AGAIN).await;
                }
                connected => return Ok(connected?),
            }
        }
    }

    /// The one path that `text` names, taken as it is.
    pub(crate) async fn literal(&self, text: &str) -> Outcome<Remote> {
        let (url, path) = self.split(text)?;
        let client = self.client_of(&url).await?;
        Ok(Remote { client, path: tidy(&path) })
    }

    /// The cluster and path in `text`, the path as it was written.
    fn split(&self, text: &str) -> Outcome<(FsUrl, String)> {
        if let Some(rest) = text.strip_prefix("hdfs://") {
            let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
            let url = format!("hdfs://{authority}").parse();
            let url = url.map_err(|error: steadfs_client::FsError| Failure::usage(error.message()))?;
            return Ok((url, path.to_owned()));
        }
        if text.starts_with('/') {
            return Ok((self.url.clone(), text.to_owned()));
        }
        Err(Failure::usage(format!(
            "`{text}` is not a remote path: write an absolute path (/data/x) or a URL (hdfs://host:8020/data/x)"
        )))
    }

    /// The paths that `text` stands for: itself, or what its glob matches, in order.
    pub(crate) async fn expand(&self, text: &str) -> Outcome<Vec<Remote>> {
        let (url, path) = self.split(text)?;
        let client = self.client_of(&url).await?;
        if !glob::is_glob(&path) {
            return Ok(vec![Remote { client, path: tidy(&path) }]);
        }
        let mut found = Vec::new();
        match glob::parse(&path) {
            Ok(patterns) => {
                for pattern in patterns {
                    expand_pattern(&client, &pattern, &mut found).await?;
                }
            }
            Err(why) if client.exists(&path).await.is_ok_and(|there| there) => drop(why),
            Err(why) => return Err(Failure::usage(format!("{path}: {why}"))),
        }
        if found.is_empty() {
            // A name that only looks like a glob.
            if client.exists(&tidy(&path)).await.unwrap_or(false) {
                return Ok(vec![Remote { client, path: tidy(&path) }]);
            }
            return Err(Failure::other(format!("{path}: nothing matches")));
        }
        found.sort();
        found.dedup();
        Ok(found.into_iter().map(|path| Remote { client: client.clone(), path }).collect())
    }
}

async fn expand_pattern(client: &Client, pattern: &[Component], found: &mut Vec<String>) -> Outcome<()> {
    let mut paths = vec!["/".to_owned()];
    let mut seen = false;
    for component in pattern {
        let mut next = Vec::new();
        for path in &paths {
            match component {
                Component::Literal(name) => next.push(join(path, name)),
                Component::Pattern(tokens) => {
                    seen = true;
                    let names = client
                        .list(path)
                        .try_filter(|entry| futures::future::ready(glob::matches(tokens, entry.name())));
                    let mut names = std::pin::pin!(names);
                    while let Some(entry) = names.next().await {
                        match entry {
                            Ok(entry) if entry.path.to_string() != *path => next.push(entry.path.to_string()),
                            // A file has no entries.
                            Ok(_) => {}
                            Err(error)
                                if matches!(
                                    error.kind(),
                                    FsErrorKind::NotFound
                                        | FsErrorKind::ParentNotDirectory
                                        | FsErrorKind::NotADirectory
                                ) =>
                            {
                                break;
                            }
                            Err(error) => return Err(Failure::at(path)(error)),
                        }
                        if next.len() > MAX_MATCHES {
                            return Err(Failure::other(format!("more than {MAX_MATCHES} paths match")));
                        }
                    }
                }
            }
        }
        paths = next;
    }
    let ends_literal = matches!(pattern.last(), Some(Component::Literal(_)));
    for path in paths {
        // What follows a glob as it is must be looked for; what was written in full is answered for by the command.
        let there = !(seen && ends_literal) || client.exists(&path).await.map_err(Failure::at(&path))?;
        if there {
            found.push(path);
        }
    }
    Ok(())
}

/// Without repeated slashes and without one at the end: what shells and scripts make of joined paths.
fn tidy(path: &str) -> String {
    let mut tidy = String::with_capacity(path.len());
    for name in path.split('/').filter(|name| !name.is_empty()) {
        tidy.push('/');
        tidy.push_str(name);
    }
    if tidy.is_empty() { "/".into() } else { tidy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(fs: Option<&str>) -> Outcome<Session> {
        Session::new(&Connection {
            fs: fs.map(str::to_owned),
            user: Some("u".into()),
            connect_timeout: CONNECT_TIMEOUT,
        })
    }

    #[test]
    fn paths_are_tidied() {
        for (text, path) in [("/", "/"), ("//", "/"), ("/a//b/", "/a/b"), ("/a/..", "/a/..")] {
            assert_eq!(tidy(text), path);
        }
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/a", "b"), "/a/b");
    }

    #[test]
    fn a_path_names_its_cluster_or_takes_the_default() {
        let session = session(Some("hdfs://nn:9000")).unwrap();
        let (url, path) = session.split("/a b/*").unwrap();
        assert_eq!((url.to_string().as_str(), path.as_str()), ("hdfs://nn:9000", "/a b/*"));
        let (url, path) = session.split("hdfs://other/x?").unwrap();
        assert_eq!((url.to_string().as_str(), path.as_str()), ("hdfs://other:8020", "/x?"));
        assert!(session.split("relative").unwrap_err().to_string().contains("absolute"));
        assert!(session.split("hdfs://h:x/").is_err());
    }

    #[test]
    fn without_an_address_it_is_this_machine() {
        assert_eq!(session(None).unwrap().url.to_string(), DEFAULT_URL);
        assert_eq!(session(Some("")).unwrap().url.to_string(), DEFAULT_URL);
        assert!(matches!(session(Some("http://x")), Err(Failure::Usage(_))));
    }
}
