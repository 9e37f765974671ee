//! `steadfs admin`: what an operator orders.

use serde::Serialize;
use steadfs_client::{Client, InodeId};

use crate::args::OpenFilesArgs;
use crate::failure::Outcome;
use crate::out::{printable, table};
use crate::session::Session;

pub(crate) async fn refresh_nodes(session: &Session) -> Outcome<()> {
    Ok(session.client().await?.refresh_nodes().await?)
}

pub(crate) async fn save_namespace(session: &Session) -> Outcome<()> {
    Ok(session.client().await?.save_namespace().await?)
}

pub(crate) async fn roll_journal(session: &Session) -> Outcome<()> {
    let first = session.client().await?.roll_journal().await?;
    let mut out = session.out();
    out.line(format!("the new segment begins with transaction {first}")).await?;
    out.flush().await
}

pub(crate) async fn save_report(session: &Session, file: &str) -> Outcome<()> {
    let path = session.client().await?.save_report(file).await?;
    let mut out = session.out();
    out.line(format!("written to {} on the namenode", printable(&path))).await?;
    out.flush().await
}

pub(crate) async fn balancer_bandwidth(session: &Session, bytes_per_second: u64) -> Outcome<()> {
    Ok(session.client().await?.set_balancer_bandwidth(bytes_per_second).await?)
}

#[derive(Serialize)]
struct OpenFileJson<'a> {
    path: &'a str,
    client: &'a str,
    machine: &'a str,
    inode: u64,
}

pub(crate) async fn open_files(session: &Session, args: OpenFilesArgs, json: bool) -> Outcome<()> {
    let client = session.client().await?;
    let files = all_open(&client, &args).await?;
    let mut out = session.out();
    if json {
        for file in &files {
            let row = OpenFileJson {
                path: &file.path,
                client: &file.client,
                machine: &file.machine,
                inode: file.inode.0,
            };
            out.json(&row).await?;
        }
    } else {
        let rows = files
            .iter()
            .map(|file| vec![printable(&file.machine), printable(&file.client), printable(&file.path)]);
        out.line(table(&["host", "client", "path"], &[], rows.collect())).await?;
    }
    out.flush().await
}

async fn all_open(client: &Client, args: &OpenFilesArgs) -> Outcome<Vec<steadfs_client::OpenFile>> {
    let (mut files, mut after) = (Vec::new(), InodeId(0));
    loop {
        let (page, more) = client.open_files(&args.path, after, args.blocking).await?;
        let last = page.last().map(|file| file.inode);
        files.extend(page);
        match last.filter(|_| more) {
            Some(last) => after = last,
            None => return Ok(files),
        }
    }
}
