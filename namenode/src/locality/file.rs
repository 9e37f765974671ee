//! `pods.toml`: its form, and whether it has changed.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use steadfs_namenode_core::locality::{Pod, Pods, Role};

/// The largest file that is read, in bytes: some hundred thousand pods.
const MAX_FILE_BYTES: u64 = 32 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default)]
    pods: Vec<PodForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PodForm {
    id: String,
    ips: Vec<IpAddr>,
    node: String,
    #[serde(default)]
    application: String,
    #[serde(default)]
    role: RoleForm,
    #[serde(default = "yes")]
    locality: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum RoleForm {
    Driver,
    Executor,
    #[default]
    Other,
}

const fn yes() -> bool {
    true
}

/// Reads pods; the error is one sentence.
pub(super) fn parse(text: &str) -> Result<Pods, String> {
    let form: FileForm = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start].lines().count().max(1));
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        format!("{place}{}", error.message())
    })?;
    let pods = form.pods.into_iter().map(|pod| Pod {
        id: pod.id,
        ips: pod.ips,
        node: pod.node,
        host_network: false,
        application: pod.application,
        also_for: String::new(),
        role: match pod.role {
            RoleForm::Driver => Role::Driver,
            RoleForm::Executor => Role::Executor,
            RoleForm::Other => Role::Other,
        },
        opted_out: !pod.locality,
    });
    Pods::new(pods.collect()).map_err(|error| error.to_string())
}

/// What a look at the file found.
pub(super) enum Change {
    /// The same as before.
    None,
    /// Other pods.
    Pods(Pods),
    /// Something that cannot be used; told once.
    Bad(String),
}

/// A file that is looked at again and again. It is compared by content: times of change are too coarse for two writes in
/// a row.
pub(super) struct Watched {
    path: PathBuf,
    last: Option<Result<Vec<u8>, String>>,
}

impl Watched {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, last: None }
    }

    /// Reads the file. Blocks.
    pub(super) fn look(&mut self) -> Change {
        let now = self.read();
        if self.last.as_ref() == Some(&now) {
            return Change::None;
        }
        let change = match &now {
            Ok(bytes) => std::str::from_utf8(bytes)
                .map_err(|error| error.to_string())
                .and_then(parse)
                .map_or_else(Change::Bad, Change::Pods),
            Err(problem) => Change::Bad(problem.clone()),
        };
        self.last = Some(now);
        change
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let file = File::open(&self.path).map_err(|error| error.to_string())?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(format!("it is larger than {MAX_FILE_BYTES} bytes"));
        }
        Ok(bytes)
    }
}
