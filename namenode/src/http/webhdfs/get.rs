//! What is asked and changes nothing.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use serde_json::{Value, json};
use steadfs_common::limits::LISTING_PAGE;
use steadfs_common::{FsError, FsErrorKind, FsPath, FsResult};
use steadfs_namenode_core::command::FileRef;
use steadfs_namenode_core::policy::{self, POLICIES};
use steadfs_wire::webhdfs::RestError;

use super::json as shapes;
use super::{Answer, Asked, attributes, json, json_body, redirect};
use crate::service::{FileStatus, Listing};

const OPERATIONS: &[&str] = &[
    "OPEN",
    "GETFILESTATUS",
    "LISTSTATUS",
    "LISTSTATUS_BATCH",
    "GETCONTENTSUMMARY",
    "GETQUOTAUSAGE",
    "GETFILECHECKSUM",
    "GETHOMEDIRECTORY",
    "GETDELEGATIONTOKEN",
    "GET_BLOCK_LOCATIONS",
    "GETFILEBLOCKLOCATIONS",
    "GETACLSTATUS",
    "GETXATTRS",
    "LISTXATTRS",
    "CHECKACCESS",
    "GETTRASHROOT",
    "GETTRASHROOTS",
    "GETALLSTORAGEPOLICY",
    "GETSTORAGEPOLICY",
    "GETECPOLICY",
    "GETECPOLICIES",
    "GETECCODECS",
    "GETSERVERDEFAULTS",
    "GETSNAPSHOTDIFF",
    "GETSNAPSHOTDIFFLISTING",
    "GETSNAPSHOTTABLEDIRECTORYLIST",
    "GETSNAPSHOTLIST",
    "GETLINKTARGET",
    "GETFILELINKSTATUS",
    "GETSTATUS",
];

/// Homes that are looked through for trash.
const MOST_HOMES: usize = 10_000;

pub(super) async fn answer(asked: Asked) -> Answer {
    let operation = asked.query.operation(OPERATIONS, "GET")?;
    match operation {
        "OPEN" => redirect::open(&asked).await,
        "GETFILECHECKSUM" => redirect::to_a_replica(&asked, operation).await,
        // There are no symbolic links.
        "GETFILESTATUS" | "GETFILELINKSTATUS" => {
            Ok(json(&json!({ "FileStatus": shapes::status(&existing(&asked).await?) })))
        }
        "LISTSTATUS" => list(asked).await,
        "LISTSTATUS_BATCH" => list_page(&asked).await,
        "GETCONTENTSUMMARY" => {
            let sums = asked.service.content_summary(&asked.caller, &asked.path).await?;
            Ok(json(&json!({ "ContentSummary": shapes::content_summary(&sums) })))
        }
        "GETQUOTAUSAGE" => {
            let sums = asked.service.quota_usage(&asked.caller, &asked.path).await?;
            Ok(json(&json!({ "QuotaUsage": shapes::quota_usage(&sums) })))
        }
        "GETHOMEDIRECTORY" => Ok(json(&json!({ "Path": home(&asked) }))),
        "GETTRASHROOTS" => trash_roots(&asked).await,
        "GETTRASHROOT" => Ok(json(&json!({ "Path": format!("{}/.Trash", home(&asked)) }))),
        // Where callers are believed their word, HDFS gives no tokens either.
        "GETDELEGATIONTOKEN" => Ok(json(&json!({ "Token": null }))),
        "GET_BLOCK_LOCATIONS" | "GETFILEBLOCKLOCATIONS" => locations(&asked, operation).await,
        "GETACLSTATUS" => attributes::acl_status(&asked).await,
        "GETXATTRS" => attributes::attributes(&asked, operation).await,
        "LISTXATTRS" => attributes::attribute_names(&asked).await,
        "CHECKACCESS" => check_access(&asked).await,
        "GETALLSTORAGEPOLICY" => {
            let known: Vec<Value> = POLICIES.iter().map(shapes::policy).collect();
            Ok(json(&json!({ "BlockStoragePolicies": { "BlockStoragePolicy": known } })))
        }
        "GETSTORAGEPOLICY" => storage_policy(&asked).await,
        "GETSERVERDEFAULTS" => {
            Ok(json(&json!({ "FsServerDefaults": shapes::defaults(&asked.service.defaults()) })))
        }
        "GETLINKTARGET" => {
            existing(&asked).await?;
            Err(FsError::refused(format!("Path {} is not a symbolic link", asked.path)).into())
        }
        // No file has one.
        "GETECPOLICY" => {
            existing(&asked).await?;
            Ok(json(&Value::Null))
        }
        "GETECPOLICIES" => Ok(json(&json!({ "ErasureCodingPolicies": { "ErasureCodingPolicyInfo": [] } }))),
        "GETECCODECS" => Ok(json(&json!({ "ErasureCodingCodecs": {} }))),
        "GETSTATUS" => Ok(json(&json!({ "FsStatus": shapes::fs_status(&asked.service.fs_stats()) }))),
        _ => Err(RestError::unsupported(operation)),
    }
}

fn home(asked: &Asked) -> String {
    format!("/user/{}", asked.caller.user)
}

async fn existing(asked: &Asked) -> FsResult<FileStatus> {
    let found = asked.service.status(&asked.caller, &asked.path).await?;
    found.ok_or_else(|| FsError::not_found(&asked.path))
}

async fn page(asked: &Asked, after: &[u8]) -> FsResult<Option<Listing>> {
    asked.service.list(&asked.caller, &asked.path, after, LISTING_PAGE, false).await
}

fn nothing_to_list(asked: &Asked) -> FsError {
    FsError::new(FsErrorKind::NotFound, format!("File {} does not exist.", asked.path))
}

async fn list_page(asked: &Asked) -> Answer {
    let after = asked.query.text("startafter").as_bytes();
    let page = page(asked, after).await?.ok_or_else(|| nothing_to_list(asked))?;
    let entries: Vec<Value> = page.entries.iter().map(shapes::status).collect();
    Ok(json(&json!({ "DirectoryListing": {
        "partialListing": { "FileStatuses": { "FileStatus": entries } },
        "remainingEntries": page.remaining,
    }})))
}

/// A folder being listed.
struct Pages {
    asked: Asked,
    next: Option<Listing>,
    begun: bool,
}

/// The whole folder, sent page by page: no more than one is held, however many entries there are.
async fn list(asked: Asked) -> Answer {
    let first = page(&asked, &[]).await?.ok_or_else(|| nothing_to_list(&asked))?;
    let pages = Pages { asked, next: Some(first), begun: false };
    let stream = futures::stream::try_unfold(pages, |mut pages| async move {
        let Some(listing) = pages.next.take() else { return FsResult::Ok(None) };
        let mut text = String::new();
        if !pages.begun {
            text.push_str(r#"{"FileStatuses":{"FileStatus":["#);
        }
        for entry in &listing.entries {
            if pages.begun {
                text.push(',');
            }
            pages.begun = true;
            text.push_str(&shapes::status(entry).to_string());
        }
        // An empty folder begins no list, but its only page is the first.
        pages.begun = true;
        let last = listing.entries.last().and_then(|entry| entry.name.clone());
        if let Some(last) = last.filter(|_| listing.remaining > 0) {
            // A folder that is removed meanwhile ends where it was.
            pages.next = page(&pages.asked, last.as_str().as_bytes()).await?;
        }
        if pages.next.is_none() {
            text.push_str("]}}");
        }
        Ok(Some((Bytes::from(text), pages)))
    });
    Ok(json_body(StatusCode::OK, Body::from_stream(stream)))
}

async fn locations(asked: &Asked, operation: &str) -> Answer {
    let offset = asked.query.unsigned("offset", 0)?.unwrap_or(0);
    let length = asked.query.unsigned("length", 0)?.unwrap_or(i64::MAX as u64);
    let file = FileRef { path: asked.path.clone(), inode: None };
    let (_, blocks) = asked.service.locations(&asked.caller, &file, offset, length).await?;
    Ok(json(&if operation == "GET_BLOCK_LOCATIONS" {
        json!({ "LocatedBlocks": shapes::located_blocks(&asked.service.identity().block_pool, &blocks) })
    } else {
        json!({ "BlockLocations": { "BlockLocation": shapes::block_locations(&blocks) } })
    }))
}

async fn check_access(asked: &Asked) -> Answer {
    let action = asked.query.required("fsaction", "CHECKACCESS")?;
    let bits =
        action.bytes().zip([(b'r', 4), (b'w', 2), (b'x', 1)]).try_fold(0, |bits, (given, (letter, bit))| {
            match given {
                b'-' => Some(bits),
                given if given == letter => Some(bits | bit),
                _ => None,
            }
        });
    let Some(bits) = bits.filter(|_| action.len() == 3) else {
        let shown: String = action.chars().take(20).collect();
        let problem = format!("Invalid value: \"{shown}\" does not belong to the domain [r-][w-][x-]");
        return Err(RestError::parameter("fsaction", &problem));
    };
    asked.service.check_access(&asked.caller, &asked.path, bits).await?;
    super::done(steadfs_namenode_core::Reply::Done)
}

/// The trash of the caller, or with `allusers` that of every home; those that are there.
async fn trash_roots(asked: &Asked) -> Answer {
    const HOMES: &str = "/user";
    let mut homes = vec![home(asked)];
    if asked.query.truth("allusers", false)? {
        homes = homes_below(asked, &FsPath::parse(HOMES)?).await?;
    }
    let mut roots = Vec::new();
    for home in homes {
        let path = FsPath::parse(&format!("{home}/.Trash"))?;
        // What the caller may not see is passed over.
        if let Ok(Some(found)) = asked.service.status(&asked.caller, &path).await {
            roots.push(shapes::bare_status(&path, &found));
        }
    }
    Ok(json(&json!({ "Paths": roots })))
}

async fn homes_below(asked: &Asked, parent: &FsPath) -> FsResult<Vec<String>> {
    let (mut homes, mut after) = (Vec::new(), Vec::new());
    loop {
        let page = asked.service.list(&asked.caller, parent, &after, LISTING_PAGE, false).await;
        let Some(page) = page? else { return Ok(homes) };
        let names = page.entries.iter().filter_map(|entry| entry.name.as_ref());
        homes.extend(names.map(|name| format!("{parent}/{}", name.as_str())));
        let last = page.entries.last().and_then(|entry| entry.name.as_ref());
        match last.filter(|_| page.remaining > 0 && homes.len() < MOST_HOMES) {
            Some(last) => after = last.as_str().as_bytes().to_vec(),
            None => return Ok(homes),
        }
    }
}

async fn storage_policy(asked: &Asked) -> Answer {
    let found = asked.service.storage_policy(&asked.caller, &asked.path).await?;
    Ok(json(&json!({ "BlockStoragePolicy": shapes::policy(found.unwrap_or(policy::HOT)) })))
}
