//! Names that nobody chooses with good intentions, and trees past the limits.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;

use steadfs_tests::TestCluster;

use crate::mounted::{Mounted, errno, limited};

const EINVAL: i32 = 22;
const ENAMETOOLONG: i32 = 36;
const EILSEQ: i32 = 84;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_are_kept_exactly_or_refused() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    let kept: Vec<String> = [
        "new\nline",
        "tab\there",
        "back\\slash",
        "-rf",
        " ",
        "~",
        "*?[a]{b,c}",
        "$(touch x)`id`;|&",
        "'\"",
        "\u{1b}[2J",
        "\u{7f}",
        "ü e\u{301}",
        "\u{202e}gpj.exe",
        "...",
        ".steadfs",
        "%2e%2e%2f",
        "\u{10ffff}",
    ]
    .into_iter()
    .map(String::from)
    .chain(["n".repeat(255), "\u{fc}".repeat(127)])
    .collect();
    let made = kept.clone();
    mounted
        .with(move |at| {
            for name in &made {
                fs::write(at.join(name), name)?;
                fs::rename(at.join(name), at.join("in between"))?;
                fs::rename(at.join("in between"), at.join(name))?;
                assert_eq!(fs::read_to_string(at.join(name))?, *name);
            }
            let named = |name: &[u8]| at.join(OsStr::from_bytes(name));
            for name in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf"] {
                assert_eq!(errno(File::create(named(name))), EILSEQ, "{name:?}");
                assert_eq!(errno(fs::create_dir(named(name))), EILSEQ, "{name:?}");
                assert_eq!(errno(fs::rename(at.join(" "), named(name))), EILSEQ, "{name:?}");
            }
            assert_eq!(errno(File::create(at.join("a:b"))), EINVAL);
            assert_eq!(errno(fs::create_dir(at.join("n".repeat(256)))), ENAMETOOLONG);
            assert_eq!(errno(fs::create_dir(at.join("\u{fc}".repeat(128)))), ENAMETOOLONG);
            let mut listed: Vec<_> =
                fs::read_dir(at)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?;
            listed.sort();
            let mut expected: Vec<_> = made.iter().map(std::ffi::OsString::from).collect();
            expected.sort();
            assert_eq!(listed, expected);
            Ok(())
        })
        .await?;
    let mut stored: Vec<String> =
        client.list_all("/").await?.into_iter().map(|entry| entry.name().to_owned()).collect();
    stored.sort();
    let mut expected = kept;
    expected.sort();
    assert_eq!(stored, expected);
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_ends_where_paths_become_too_long() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    mounted
        .with(|at| {
            // Step by step, as Linux takes 4,095 bytes of path a call: a path in the cluster has up to 8,000 characters.
            let program = "import os, sys, errno\n\
                os.chdir(sys.argv[1])\n\
                made = 0\n\
                try:\n\
                \twhile made < 100: os.mkdir('d' * 200); os.chdir('d' * 200); made += 1\n\
                except OSError as e: assert e.errno == errno.ENAMETOOLONG, e\n\
                assert made == 39, made\n\
                open('f', 'w').write('deep')\n\
                assert open('f').read() == 'deep'\n";
            let line = ["python3", "-c", program, &at.to_string_lossy()].map(String::from);
            let output = limited(&line)?;
            anyhow::ensure!(output.success, "{}", output.error);
            let output =
                limited(&["rm", "-r", &at.join("d".repeat(200)).to_string_lossy()].map(String::from))?;
            anyhow::ensure!(output.success, "{}", output.error);
            assert_eq!(fs::read_dir(at)?.count(), 0);
            Ok(())
        })
        .await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_inside_stays_when_others_change_the_folder() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    client.mkdirs("/d/inside").await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--cache-ttl-ms", "600000"]).await?;
    let inner = mounted.path("d/inside").to_string_lossy().into_owned();
    let line = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", &inner].map(String::from);
    let output = mounted.with(move |_| limited(&line)).await?;
    anyhow::ensure!(output.success, "{}", output.error);
    let inner_of = inner.clone();
    mounted.with(move |_| Ok(fs::write(format!("{inner_of}/mine"), "x")?)).await?;
    client.set_permission("/d/inside", 0o711).await?;
    client.write("/d/beside", "y").await?;
    client.rename("/d/inside", "/d/away").await?;
    client.rename("/d/away", "/d/inside").await?;
    let path = mounted.path("d/beside");
    steadfs_tests::eventually("the changes are heard of", async || {
        let path = path.clone();
        mounted.with(move |_| Ok(path.exists())).await
    })
    .await?;
    let inner_of = inner.clone();
    let kept = mounted.with(move |_| Ok(fs::read_to_string(format!("{inner_of}/mine")).ok())).await?;
    let unmounted = mounted.with(move |_| limited(&["umount", "--lazy", &inner].map(String::from))).await?;
    assert_eq!(kept.as_deref(), Some("x"), "what was mounted is gone");
    assert!(unmounted.success, "{}", unmounted.error);
    drop(mounted);
    test.stop().await;
    Ok(())
}
