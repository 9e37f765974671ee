//! How much folders hold and may hold, and how it is stored: `count`, `policy`, and `admin quota`.

use serde::Serialize;
use steadfs_client::{Bound, ContentSummary, StorageType};

use crate::args::{CountArgs, PolicyArgs, QuotaArgs};
use crate::failure::{Failure, Outcome};
use crate::out::{Out, printable, size, table};
use crate::run::Run;
use crate::session::{Remote, Session};

/// HDFS's storage policies, and what each means.
const POLICIES: [(&str, &str); 8] = [
    ("HOT", "all replicas on DISK (where nothing else is set)"),
    ("WARM", "one replica on DISK, the others on ARCHIVE"),
    ("COLD", "all replicas on ARCHIVE"),
    ("ONE_SSD", "one replica on SSD, the others on DISK"),
    ("ALL_SSD", "all replicas on SSD"),
    ("ALL_NVDIMM", "all replicas on NVDIMM"),
    ("LAZY_PERSIST", "known for the sake of stock clients: replicas go to DISK"),
    ("PROVIDED", "known for the sake of stock clients: replicas go to DISK"),
];

#[derive(Serialize)]
struct CountJson<'a> {
    path: &'a str,
    directories: u64,
    files: u64,
    length: u64,
    space: u64,
    name_quota: Option<u64>,
    space_quota: Option<u64>,
    types: Vec<TypeJson>,
}

#[derive(Serialize)]
struct TypeJson {
    kind: &'static str,
    used: u64,
    quota: Option<u64>,
}

/// Types with something on them, or a quota.
fn types(sums: &ContentSummary) -> Vec<TypeJson> {
    let of = |kind: StorageType| {
        let usage = sums.types[kind.index()];
        let shown = usage.used > 0 || usage.quota.is_some();
        shown.then(|| TypeJson { kind: kind.name(), used: usage.used, quota: usage.quota })
    };
    StorageType::ALL.into_iter().filter_map(of).collect()
}

pub(crate) async fn count(session: &Session, args: CountArgs, run: &mut Run) -> Outcome<()> {
    let mut out = session.out();
    let mut found = Vec::new();
    for text in &args.paths {
        for remote in run.paths(session.expand(text).await)? {
            match remote.client.content_summary(&remote.path).await.map_err(Failure::at(&remote.path)) {
                Ok(sums) => found.push((remote.path, sums)),
                Err(failure) => run.note(Err(failure))?,
            }
        }
    }
    if args.json {
        for (path, sums) in &found {
            out.json(&json_of(path, sums)).await?;
        }
    } else if !found.is_empty() {
        out.line(shown(&found, &args)).await?;
    }
    out.flush().await
}

fn json_of<'a>(path: &'a str, sums: &ContentSummary) -> CountJson<'a> {
    CountJson {
        path,
        directories: sums.directories,
        files: sums.files,
        length: sums.length,
        space: sums.space,
        name_quota: sums.name_quota,
        space_quota: sums.space_quota,
        types: types(sums),
    }
}

fn shown(found: &[(String, ContentSummary)], args: &CountArgs) -> String {
    let bound = |bound: Option<u64>, shown: fn(u64, bool) -> String| {
        bound.map_or_else(|| "-".to_owned(), |bound| shown(bound, args.bytes))
    };
    let plain: fn(u64, bool) -> String = |number, _| number.to_string();
    let row = |(path, sums): &(String, ContentSummary)| {
        let mut row = vec![
            sums.directories.to_string(),
            sums.files.to_string(),
            size(sums.length, args.bytes),
            size(sums.space, args.bytes),
        ];
        if args.quota {
            row.push(bound(sums.name_quota, plain));
            row.push(bound(sums.space_quota, size));
            let each = types(sums).into_iter().map(|usage| {
                format!("{} {}/{}", usage.kind, size(usage.used, args.bytes), bound(usage.quota, size))
            });
            row.push(each.collect::<Vec<_>>().join(", "));
        }
        row.push(printable(path));
        row
    };
    let mut head = vec!["folders", "files", "length", "space"];
    if args.quota {
        head.extend(["name quota", "space quota", "types"]);
    }
    head.push("path");
    table(&head, &[0, 1, 2, 3, 4, 5], found.iter().map(row).collect())
}

pub(crate) async fn policy(session: &Session, args: PolicyArgs, run: &mut Run) -> Outcome<()> {
    let mut out = session.out();
    if args.list {
        let rows = POLICIES.map(|(name, meaning)| vec![name.to_owned(), meaning.to_owned()]);
        out.line(table(&["policy", "meaning"], &[], rows.to_vec())).await?;
        return out.flush().await;
    }
    if args.paths.is_empty() {
        return Err(Failure::usage("a path is needed (or --list)"));
    }
    for text in &args.paths {
        for remote in run.paths(session.expand(text).await)? {
            let done = policy_one(&remote, &args, &mut out).await;
            run.note(done)?;
        }
    }
    out.flush().await
}

async fn policy_one(remote: &Remote, args: &PolicyArgs, out: &mut Out) -> Outcome<()> {
    let at = || Failure::at(&remote.path);
    if args.unset || args.set.is_some() {
        let wanted = args.set.as_deref();
        return remote.client.set_storage_policy(&remote.path, wanted).await.map_err(at());
    }
    let found = remote.client.storage_policy(&remote.path).await.map_err(at())?;
    out.line(format!("{}  {}", found.as_deref().unwrap_or("-"), printable(&remote.path))).await
}

pub(crate) async fn quota(session: &Session, args: QuotaArgs, run: &mut Run) -> Outcome<()> {
    if args.names.is_none() && args.space.is_none() {
        return Err(Failure::usage("--names or --space is needed (`steadfs fs count -q` shows quotas)"));
    }
    if args.kind.is_some() && args.names.is_some() {
        return Err(Failure::usage("--type goes with --space alone"));
    }
    let (names, space) = (args.names.unwrap_or_default(), args.space.unwrap_or_default());
    for text in &args.paths {
        for remote in run.paths(session.expand(text).await)? {
            let done = match args.kind {
                Some(kind) => remote.client.set_type_quota(&remote.path, kind, space).await,
                None => remote.client.set_quota(&remote.path, names, space).await,
            };
            run.note(done.map_err(Failure::at(&remote.path)))?;
        }
    }
    Ok(())
}

/// A number of names, or `none`.
pub(crate) fn parse_names(text: &str) -> Result<Bound, String> {
    match text {
        "none" => Ok(Bound::Clear),
        _ => text.parse().map(Bound::Set).map_err(|_| format!("{text} is neither a number nor `none`")),
    }
}

/// A size, or `none`.
pub(crate) fn parse_space(text: &str) -> Result<Bound, String> {
    match text {
        "none" => Ok(Bound::Clear),
        _ => steadfs_common::parse_bytes(text).map(Bound::Set).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use steadfs_client::TypeUsage;

    use super::*;

    #[test]
    fn bounds_are_numbers_or_none() {
        assert_eq!(parse_names("5"), Ok(Bound::Set(5)));
        assert_eq!(parse_space("1KiB"), Ok(Bound::Set(1024)));
        assert_eq!((parse_names("none"), parse_space("none")), (Ok(Bound::Clear), Ok(Bound::Clear)));
        assert!(parse_names("-1").is_err() && parse_space("much").is_err());
    }

    #[test]
    fn counts_are_read_by_people() {
        let mut sums =
            ContentSummary { directories: 2, files: 1, length: 2048, space: 4096, ..Default::default() };
        sums.name_quota = Some(9);
        sums.types[StorageType::Ssd.index()] = TypeUsage { used: 1024, quota: None };
        let args = CountArgs { paths: Vec::new(), quota: true, bytes: false, json: false };
        let text = shown(&[("/a".into(), sums)], &args);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split("  ").collect()).collect();
        assert!(lines[1].iter().any(|cell| cell.trim() == "SSD 1.0 KiB/-"), "{text}");
        let short = shown(&[("/a".into(), sums)], &CountArgs { quota: false, ..args });
        assert!(!short.contains("quota") && short.ends_with("/a"), "{short}");
    }
}
