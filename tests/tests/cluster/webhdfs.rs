//! WebHDFS by curl, and the stock fsck's endpoint.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use steadfs_tests::{BLOCK, TestCluster, content};
use tokio::process::Command;

/// What curl got.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The status, the class of the exception and what it says.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let exception = &self.json()["RemoteException"];
        let text = |name: &str| exception[name].as_str().unwrap_or("").to_owned();
        (self.status, text("exception"), text("message"))
    }
}

/// Where WebHDFS is served.
pub(crate) struct Web(String);

impl Web {
    pub(crate) fn of(test: &TestCluster) -> Self {
        let user = test.cluster.url();
        assert!(user.starts_with("hdfs://"));
        Self(format!("{}/webhdfs/v1", test.cluster.http_url().trim_end_matches('/')))
    }

    async fn ask(&self, method: &str, path: &str, query: &str) -> anyhow::Result<Answer> {
        let user = steadfs_client::current_user();
        curl(&["-X", method, &format!("{}{path}?user.name={user}&{query}", self.0)]).await
    }

    /// An operation as `user`, through the redirect if there is one.
    pub(crate) async fn follow(
        &self,
        user: &str,
        method: &str,
        path: &str,
        query: &str,
    ) -> anyhow::Result<Answer> {
        let first = curl(&["-X", method, &format!("{}{path}?user.name={user}&{query}", self.0)]).await?;
        match first.headers.get("location").filter(|_| first.status == 307) {
            Some(location) => curl(&["-X", method, location]).await,
            None => Ok(first),
        }
    }

    /// Both steps of an operation that sends bytes, as `user`.
    pub(crate) async fn send_bytes(
        &self,
        user: &str,
        method: &str,
        path: &str,
        query: &str,
        bytes: &[u8],
    ) -> anyhow::Result<Answer> {
        let first = curl(&["-X", method, &format!("{}{path}?user.name={user}&{query}", self.0)]).await?;
        let Some(location) = first.headers.get("location").filter(|_| first.status == 307) else {
            return Ok(first);
        };
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(bytes)?;
        let name = file.path().to_str().context("a path in UTF-8")?;
        curl(&["-X", method, "-T", name, location]).await
    }

    /// Both steps of an operation that sends `file`.
    async fn send(&self, method: &str, path: &str, query: &str, file: &str) -> anyhow::Result<Answer> {
        let first = self.ask(method, path, query).await?;
        ensure!(first.status == 307, "{method} {path} {query} answered {}", first.status);
        ensure!(first.body.is_empty(), "a redirect has no body");
        curl(&["-X", method, "-T", file, &first.headers["location"]]).await
    }
}

async fn curl(arguments: &[&str]) -> anyhow::Result<Answer> {
    let output = Command::new("curl")
        .args(["-sS", "-i", "--max-time", "60", "--noproxy", "*"])
        .args(arguments)
        .output()
        .await
        .context("running curl (scripts/setup installs it)")?;
    ensure!(output.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut rest = &output.stdout[..];
    loop {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").context("an answer has a head")?;
        let (head, body) = (std::str::from_utf8(&rest[..end])?, &rest[end + 4..]);
        let (first, fields) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = first.split(' ').nth(1).context("a status")?.parse()?;
        if status == 100 {
            rest = body;
            continue;
        }
        let headers = fields.lines().filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        return Ok(Answer { status, headers, body: body.to_vec() });
    }
}

fn file(test: &TestCluster, name: &str, length: usize) -> anyhow::Result<String> {
    let path = test.folder().join(name);
    std::fs::write(&path, content(name, length))?;
    Ok(path.to_str().context("a path in UTF-8")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_through_webhdfs_in_two_steps() -> anyhow::Result<()> {
    let test = TestCluster::in_process(2).await?;
    let door = Web::of(&test);
    let length = 2 * BLOCK as usize + 12_345;
    let big = file(&test, "big", length)?;
    let created = door.send("PUT", "/d/big", "op=CREATE&replication=2&permission=640", &big).await?;
    assert_eq!(created.status, 201);
    assert_eq!(created.headers["location"], format!("{}/d/big", test.cluster.url().trim_end_matches('/')));
    let more = file(&test, "more", 1_000)?;
    assert_eq!(door.send("POST", "/d/big", "op=APPEND", &more).await?.status, 200);

    let status = door.ask("GET", "/d/big", "op=GETFILESTATUS").await?.json();
    let status = &status["FileStatus"];
    assert_eq!(
        (&status["length"], &status["permission"], &status["type"], &status["pathSuffix"]),
        (&json!(length + 1_000), &json!("640"), &json!("FILE"), &json!(""))
    );
    let mut whole = content("big", length).to_vec();
    whole.extend_from_slice(&content("more", 1_000));
    for (query, from, to) in [
        ("op=OPEN", 0, whole.len()),
        ("OP=open&Offset=1048570&LENGTH=20", 1_048_570, 1_048_590),
        ("op=OPEN&offset=5&length=1500000", 5, 1_500_005),
        ("op=OPEN&offset=2000000", 2_000_000, whole.len()),
    ] {
        let first = door.ask("GET", "/d/big", query).await?;
        assert_eq!(first.status, 307, "{query}");
        let read = curl(&[&first.headers["location"]]).await?;
        assert_eq!((read.status, read.headers["content-length"].as_str()), (200, &*(to - from).to_string()));
        assert!(read.body == whole[from..to], "{query}");
    }
    let checksum = door.ask("GET", "/d/big", "op=GETFILECHECKSUM&noredirect=true").await?;
    assert_eq!(checksum.status, 200);
    let location = checksum.json()["Location"].as_str().context("a location")?.to_owned();
    let checksum = curl(&[&location]).await?.json();
    assert_eq!(checksum["FileChecksum"]["bytes"], test.client().await?.checksum("/d/big").await?.hex());

    let past = door.ask("GET", "/d/big", "op=OPEN&offset=99999999").await?.error();
    assert_eq!((past.0, past.1.as_str()), (403, "IOException"));
    assert!(past.2.starts_with("Offset=99999999 out of the range [0, "), "{}", past.2);
    let again = door.send("PUT", "/d/big", "op=CREATE", &more).await?.error();
    assert_eq!((again.0, again.1.as_str()), (403, "FileAlreadyExistsException"));
    assert_eq!(door.send("PUT", "/d/big", "op=CREATE&overwrite=true", &more).await?.status, 201);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_100_continue_is_told_before_sending() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let door = Web::of(&test);
    let big = file(&test, "big", 3 << 20)?;
    let first = door.ask("PUT", "/waited", "op=CREATE").await?;
    let location = &first.headers["location"];
    let expecting = ["-X", "PUT", "-H", "Expect: 100-continue", "--expect100-timeout", "30", "-T", &big];
    let created = curl(&[&expecting[..], &[location]].concat()).await?;
    assert_eq!(created.status, 201);
    // The second time the file is there: the answer comes without the body having been asked for.
    let refused = curl(&[&expecting[..], &[location]].concat()).await?;
    assert_eq!(refused.error().1, "FileAlreadyExistsException");
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_namespace_through_webhdfs() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let door = Web::of(&test);
    let yes = json!({ "boolean": true });
    for (method, path, query) in [
        ("PUT", "/a/b%20c", "op=MKDIRS&permission=711"),
        ("PUT", "/a/b%20c", "op=RENAME&destination=/a/%C3%BC"),
        ("PUT", "/a/one", "op=MKDIRS"),
    ] {
        assert_eq!(door.ask(method, path, query).await?.json(), yes, "{query}");
    }
    for (method, path, query) in [
        ("PUT", "/a/one", "op=SETPERMISSION&permission=1777"),
        ("PUT", "/a/one", "op=SETOWNER&owner=ann&group=staff"),
        ("PUT", "/a/one", "op=SETTIMES&modificationtime=1000&accesstime=-1"),
        ("GET", "/a/one", "op=CHECKACCESS&fsaction=rwx"),
        ("PUT", "/a/one", "op=RENAME&destination=/a/two&renameoptions=OVERWRITE"),
    ] {
        let answer = door.ask(method, path, query).await?;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{query}: {:?}", answer.error());
    }
    let listed = door.ask("GET", "/a", "op=LISTSTATUS").await?.json();
    let entries = listed["FileStatuses"]["FileStatus"].as_array().context("a list")?.clone();
    let names: Vec<_> = entries.iter().map(|entry| entry["pathSuffix"].as_str().unwrap_or("")).collect();
    assert_eq!(names, ["two", "ü"]);
    assert_eq!((&entries[0]["owner"], &entries[0]["permission"]), (&json!("ann"), &json!("1777")));
    assert_eq!(entries[0]["modificationTime"], 1_000);
    let empty = door.ask("GET", "/a/two", "op=LISTSTATUS").await?.json();
    assert_eq!(empty, json!({ "FileStatuses": { "FileStatus": [] } }));
    let batch = door.ask("GET", "/a", "op=LISTSTATUS_BATCH&startafter=two").await?.json();
    assert_eq!(batch["DirectoryListing"]["remainingEntries"], 0);
    let sums = door.ask("GET", "/a", "op=GETCONTENTSUMMARY").await?.json();
    assert_eq!(sums["ContentSummary"]["directoryCount"], 3);
    let home = door.ask("GET", "/", "op=GETHOMEDIRECTORY").await?.json();
    assert_eq!(home["Path"], format!("/user/{}", steadfs_client::current_user()));
    assert_eq!(door.ask("GET", "/", "op=GETDELEGATIONTOKEN").await?.json(), json!({ "Token": null }));
    let policies = door.ask("GET", "/", "op=GETALLSTORAGEPOLICY").await?.json();
    assert!(
        policies["BlockStoragePolicies"]["BlockStoragePolicy"].as_array().is_some_and(|all| all.len() > 4)
    );
    assert_eq!(door.ask("DELETE", "/a", "op=DELETE&recursive=true").await?.json(), yes);
    assert_eq!(door.ask("DELETE", "/a", "op=DELETE").await?.json(), json!({ "boolean": false }));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn webhdfs_has_hadoops_errors() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let door = Web::of(&test);
    door.ask("PUT", "/full/x", "op=MKDIRS").await?;
    for (method, path, query, status, class, message) in [
        ("GET", "/no", "op=GETFILESTATUS", 404, "FileNotFoundException", "File does not exist: /no"),
        ("GET", "/no", "op=OPEN", 404, "FileNotFoundException", "File /no not found."),
        ("GET", "/no", "op=LISTSTATUS", 404, "FileNotFoundException", "File /no does not exist."),
        ("GET", "/full", "op=GETLINKTARGET", 403, "IOException", "Path /full is not a symbolic link"),
        (
            "PUT",
            "/full",
            "op=RENAME",
            400,
            "IllegalArgumentException",
            "Required param destination for op: RENAME",
        ),
        ("PUT", "/full", "op=CREATESYMLINK", 400, "UnsupportedOperationException", "Symlinks not supported"),
        ("GET", "/full", "op=OPEN", 404, "FileNotFoundException", "Path is not a file: /full"),
        ("DELETE", "/full", "op=DELETE", 403, "PathIsNotEmptyDirectoryException", "`/full is non empty'"),
        (
            "GET",
            "/",
            "op=FLY",
            400,
            "IllegalArgumentException",
            "Invalid value for webhdfs parameter \"op\": ",
        ),
        ("GET", "/", "", 400, "UnsupportedOperationException", "op=NULL is not supported"),
        ("PUT", "/full", "op=ALLOWSNAPSHOT", 400, "UnsupportedOperationException", "ALLOWSNAPSHOT is"),
        ("PUT", "/", "op=MKDIRS&permission=99", 400, "IllegalArgumentException", "Invalid value for webhdfs"),
        (
            "PUT",
            "/full",
            "op=RENAME&destination=x",
            400,
            "IllegalArgumentException",
            "Invalid value for webhdfs",
        ),
        ("GET", "/a//b", "op=GETFILESTATUS", 400, "InvalidPathException", "Invalid path name"),
        ("GET", "/", "op=GETFILESTATUS&doas=else", 403, "AuthorizationException", "User: "),
    ] {
        let error = door.ask(method, path, query).await?.error();
        assert_eq!((error.0, error.1.as_str()), (status, class), "{query}: {}", error.2);
        assert!(error.2.starts_with(message), "{query}: {}", error.2);
    }
    let stranger = curl(&["-X", "PUT", &format!("{}/mine?op=MKDIRS", door.0)]).await?.error();
    assert_eq!((stranger.0, stranger.1.as_str()), (403, "AccessControlException"));
    assert!(stranger.2.contains("user=dr.who"), "{}", stranger.2);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datanode_asks_only_its_own_namenode() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let door = Web::of(&test);
    let file = file(&test, "small", 10)?;
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let first = door.ask("PUT", "/mine", "op=CREATE").await?;
    let location = &first.headers["location"];
    let (front, _) = location.split_once("namenoderpcaddress=").context("the namenode's address")?;
    let user = steadfs_client::current_user();
    let forged = format!(
        "{front}namenoderpcaddress={}&user.name={user}&delegation=x&op=CREATE",
        elsewhere.local_addr()?
    );
    assert_eq!(curl(&["-X", "PUT", "-T", &file, &forged]).await?.status, 201);
    let unasked = tokio::time::timeout(std::time::Duration::from_millis(1), elsewhere.accept()).await;
    assert!(unasked.is_err(), "the address of the parameter was dialled");
    assert_eq!(test.client().await?.stat("/mine").await?.length, 10);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_fsck_reads_its_verdict() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    steadfs_tests::write(&test.client().await?, "/d/file", 100).await?;
    let fsck = format!(
        "{}/fsck?ugi={}",
        test.cluster.http_url().trim_end_matches('/'),
        steadfs_client::current_user()
    );
    let ask = async |query: &str| -> anyhow::Result<String> {
        Ok(String::from_utf8(curl(&[&format!("{fsck}&{query}")]).await?.body)?)
    };
    let report = ask("path=%2F&files=1&blocks=1&locations=1").await?;
    assert!(report.starts_with("FSCK started by "), "{report}");
    assert!(report.contains("/d/file 100 bytes, replicated: replication=1, 1 block(s):  OK"), "{report}");
    assert!(report.contains("Live_repl=1  [DatanodeInfoWithStorage["), "{report}");
    assert!(report.ends_with("The filesystem under path '/' is HEALTHY\n"), "{report}");
    assert!(ask("path=%2Fno").await?.ends_with("\nPath '/no' does not exist"));
    let corrupt = ask("path=%2F&listcorruptfileblocks=1&startblockafter=0").await?;
    assert!(corrupt.ends_with("The filesystem under path '/' has no CORRUPT files\n\n"), "{corrupt}");
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_documentation_run() -> anyhow::Result<()> {
    let test = TestCluster::in_process(2).await?;
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/webhdfs.md"))?;
    let examples: Vec<&str> =
        text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    ensure!(examples.len() > 5, "the examples of docs/webhdfs.md were not found");
    for example in examples {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", example])
            .env("NN", test.cluster.http_url().trim_end_matches('/'))
            .env("RPC", test.cluster.url().trim_end_matches('/').replacen("hdfs://", "http://", 1))
            .env("ME", steadfs_client::current_user())
            .current_dir(test.folder())
            .output()
            .await?;
        let shown = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{example}\n{}{shown}", String::from_utf8_lossy(&output.stdout));
    }
    test.stop().await;
    Ok(())
}
