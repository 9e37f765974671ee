//! `steadfs admin datanode`: what an operator asks of datanodes themselves.

use serde::Serialize;
use steadfs_client::ReconfiguredProperty;

use crate::args::DatanodeCommand;
use crate::failure::Outcome;
use crate::out::printable;
use crate::run::Run;
use crate::session::Session;

/// The RPC port of a datanode, if none is named.
const IPC_PORT: u16 = 9867;

#[derive(Serialize)]
struct ChangeJson<'a> {
    datanode: &'a str,
    property: &'a str,
    old: &'a str,
    new: &'a str,
    error: Option<&'a str>,
}

pub(crate) async fn datanode(
    session: &Session,
    command: DatanodeCommand,
    json: bool,
    run: &mut Run,
) -> Outcome<()> {
    let DatanodeCommand::Reconfigure { datanodes } = command;
    for datanode in &datanodes {
        let done = reconfigure(session, datanode, json, run).await;
        run.note(done)?;
    }
    Ok(())
}

async fn reconfigure(session: &Session, datanode: &str, json: bool, run: &mut Run) -> Outcome<()> {
    let changes = session.client().await?.reconfigure_datanode(&with_port(datanode)).await?;
    if changes.iter().any(|change| !change.error.is_empty()) {
        run.mark_failed();
    }
    let mut out = session.out();
    for change in &changes {
        if json {
            let error = Some(change.error.as_str()).filter(|error| !error.is_empty());
            let ReconfiguredProperty { name, old, new, .. } = change;
            out.json(&ChangeJson { datanode, property: name, old, new, error }).await?;
        } else {
            out.line(describe(datanode, change)).await?;
        }
    }
    if changes.is_empty() && !json {
        out.line(format!("{}: nothing has changed", printable(datanode))).await?;
    }
    out.flush().await
}

fn describe(datanode: &str, change: &ReconfiguredProperty) -> String {
    let (datanode, name) = (printable(datanode), printable(&change.name));
    if change.error.is_empty() {
        return format!(
            "{datanode}: {name} is now {} (was {})",
            printable(&change.new),
            printable(&change.old)
        );
    }
    let errors: Vec<_> = change.error.lines().map(printable).collect();
    format!("{datanode}: {name} could not be changed as a whole: {}", errors.join("; "))
}

fn with_port(datanode: &str) -> String {
    let has_port = match datanode.rsplit_once(':') {
        // An address of version 6 without brackets has no port.
        Some((host, port)) => (!host.contains(':') || host.ends_with(']')) && port.parse::<u16>().is_ok(),
        None => false,
    };
    match (has_port, datanode.contains(':') && !datanode.starts_with('[')) {
        (true, _) => datanode.to_owned(),
        (false, true) => format!("[{datanode}]:{IPC_PORT}"),
        (false, false) => format!("{datanode}:{IPC_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datanode_is_named_with_or_without_its_port() {
        for (named, dialled) in [
            ("worker-1", "worker-1:9867"),
            ("worker-1:9000", "worker-1:9000"),
            ("10.0.0.7", "10.0.0.7:9867"),
            ("[fd00::7]:9000", "[fd00::7]:9000"),
            ("[fd00::7]", "[fd00::7]:9867"),
            ("fd00::7", "[fd00::7]:9867"),
        ] {
            assert_eq!(with_port(named), dialled);
        }
    }

    #[test]
    fn what_changed_is_said_in_a_line() {
        let change = |error: &str| ReconfiguredProperty {
            name: "dfs.datanode.data.dir".into(),
            old: "[DISK]/a".into(),
            new: "[DISK]/b".into(),
            error: error.into(),
        };
        assert_eq!(describe("h", &change("")), "h: dfs.datanode.data.dir is now [DISK]/b (was [DISK]/a)");
        assert!(describe("h", &change("/c: no\n/d: neither")).ends_with("as a whole: /c: no; /d: neither"));
    }
}
