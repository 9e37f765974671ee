//! Files and folders as programs use them.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use steadfs_tests::{TestCluster, content, verify};

use crate::model::mapped;
use crate::mounted::{Mounted, errno, limited};

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const EROFS: i32 = 30;
const ENAMETOOLONG: i32 = 36;
const ENOTEMPTY: i32 = 39;
const EILSEQ: i32 = 84;

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_are_made_read_and_removed() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    mounted
        .with(|at| {
            fs::create_dir(at.join("d"))?;
            assert_eq!(errno(fs::create_dir(at.join("d"))), EEXIST);
            fs::write(at.join("d/f"), "hello")?;
            assert_eq!(fs::read_to_string(at.join("d/f"))?, "hello");
            let known = fs::metadata(at.join("d/f"))?;
            assert_eq!((known.len(), known.uid(), known.mode()), (5, 0, 0o100_644));
            assert_eq!(errno(fs::remove_dir(at.join("d"))), ENOTEMPTY);
            assert_eq!(errno(fs::remove_dir(at.join("d/f"))), ENOTDIR);
            assert_eq!(errno(fs::remove_file(at.join("d"))), EISDIR);
            assert_eq!(errno(File::open(at.join("d/none"))), ENOENT);
            let exclusive = OpenOptions::new().write(true).create_new(true).open(at.join("d/f"));
            assert_eq!(errno(exclusive), EEXIST);
            fs::rename(at.join("d/f"), at.join("g"))?;
            assert!(!at.join("d/f").exists());
            assert_eq!(fs::read_to_string(at.join("g"))?, "hello");
            fs::remove_dir(at.join("d"))?;
            fs::remove_file(at.join("g"))?;
            assert_eq!(fs::read_dir(at)?.count(), 0);
            Ok(())
        })
        .await?;
    mounted.unmount()?;
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_closed_here_is_there_for_all_and_the_other_way_round() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    for (number, length) in [0_usize, 1, 4_096, 1 << 20, 3_000_001, 20_000_003].into_iter().enumerate() {
        let name = format!("f{number}");
        let bytes = content(&format!("/{name}"), length);
        let file = name.clone();
        mounted
            .with(move |at| {
                let mut written = File::create(at.join(file))?;
                written.write_all(&bytes)?;
                Ok(())
            })
            .await?;
        verify(&client, &format!("/{name}"), &format!("/{name}"), length).await?;
        let status = client.stat(&format!("/{name}")).await?;
        assert!(!status.under_construction);
        let other = format!("/other{number}");
        steadfs_tests::write(&client, &other, length).await?;
        mounted
            .with(move |at| {
                let read = fs::read(at.join(&other[1..]))?;
                assert!(read == content(&other, length), "{other}");
                Ok(())
            })
            .await?;
    }
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_be_written_in_any_order() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--block-size", "4MiB"]).await?;
    let inode = mounted
        .with(|at| {
            let path = at.join("f");
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
            // From the back to the front, then over a middle.
            let mut expected = content("any order", 3_000_000).to_vec();
            for start in (0..expected.len()).step_by(100_000).rev() {
                file.write_all_at(&expected[start..start + 100_000], start as u64)?;
            }
            file.write_all_at(b"middle", 1_234_567)?;
            expected[1_234_567..1_234_573].copy_from_slice(b"middle");
            let mut seen = vec![0; expected.len()];
            file.read_exact_at(&mut seen, 0)?;
            assert!(seen == expected);
            drop(file);
            assert!(fs::read(&path)? == expected);
            let inode = fs::metadata(&path)?.ino();
            // And once more in what is closed.
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            file.write_all_at(b"once more", 7)?;
            file.write_all_at(b"behind the end", 3_000_010)?;
            expected[7..16].copy_from_slice(b"once more");
            expected.resize(3_000_010, 0);
            expected.extend_from_slice(b"behind the end");
            drop(file);
            assert!(fs::read(&path)? == expected);
            assert_eq!(fs::metadata(&path)?.ino(), inode, "it is another file now");
            fs::write(at.join("expected"), &expected)?;
            Ok(inode)
        })
        .await?;
    assert_eq!(client.stat("/f").await?.inode.0, inode);
    assert!(client.read("/f", 4 << 20).await? == client.read("/expected", 4 << 20).await?);
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_and_truncations_do_what_posix_says() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    mounted
        .with(|at| {
            let path = at.join("log");
            for line in ["one\n", "two\n", "three\n"] {
                OpenOptions::new().append(true).create(true).open(&path)?.write_all(line.as_bytes())?;
            }
            assert_eq!(fs::read_to_string(&path)?, "one\ntwo\nthree\n");
            // Two at once: each write goes to the end as it is.
            let (mut a, mut b) =
                (OpenOptions::new().append(true).open(&path)?, OpenOptions::new().append(true).open(&path)?);
            a.write_all(b"a")?;
            b.write_all(b"b")?;
            a.write_all(b"c")?;
            drop((a, b));
            assert_eq!(fs::read_to_string(&path)?, "one\ntwo\nthree\nabc");
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(4)?;
            assert_eq!(fs::read_to_string(&path)?, "one\n");
            file.set_len(8)?;
            assert_eq!(fs::metadata(&path)?.len(), 8);
            drop(file);
            assert_eq!(fs::read(&path)?, b"one\n\0\0\0\0");
            let file = File::create(&path)?;
            assert_eq!(fs::metadata(&path)?.len(), 0);
            drop(file);
            assert_eq!(fs::read(&path)?, b"");
            Ok(())
        })
        .await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_through_a_mapping_stays_where_it_is() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    mounted
        .with(|at| {
            let path = at.join("f");
            fs::write(&path, [7; 8_000])?;
            // Writes of such a file go to its end; changed pages do not.
            let file = OpenOptions::new().read(true).append(true).open(&path)?;
            mapped::write(&file.into(), 3, b"mapped")?;
            let mut expected = [7; 8_000];
            expected[3..9].copy_from_slice(b"mapped");
            assert!(fs::read(&path)? == expected);
            Ok(())
        })
        .await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_file_that_is_open_is_read_and_written_on() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    mounted
        .with(|at| {
            fs::create_dir(at.join("d"))?;
            let path = at.join("d/f");
            fs::write(&path, content("deleted", 100_000))?;
            let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
            fs::remove_file(&path)?;
            assert_eq!(errno(fs::metadata(&path)), ENOENT);
            assert_eq!(fs::read_dir(at.join("d"))?.count(), 0);
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            assert!(bytes == content("deleted", 100_000));
            file.seek(SeekFrom::Start(5))?;
            file.write_all(b"on and on")?;
            file.seek(SeekFrom::Start(0))?;
            bytes.clear();
            file.read_to_end(&mut bytes)?;
            assert_eq!(&bytes[5..14], b"on and on");
            assert_eq!(file.metadata()?.nlink(), 0);
            // The folder can go.
            fs::remove_dir(at.join("d"))?;
            file.seek(SeekFrom::Start(14))?;
            bytes.clear();
            file.read_to_end(&mut bytes)?;
            assert!(bytes == content("deleted", 100_000)[14..]);
            Ok(())
        })
        .await?;
    steadfs_tests::eventually("nothing is left of it", async || Ok(client.list_all("/").await?.is_empty()))
        .await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_are_kept() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    mounted
        .with(|at| {
            let path = at.join("f");
            let mut file = File::create(&path)?;
            file.write_all(b"x")?;
            let time = UNIX_EPOCH + Duration::from_millis(1_234_567_890_123);
            // As `cp -a` and `tar` do, before it is closed.
            file.set_modified(time)?;
            file.set_permissions(fs::Permissions::from_mode(0o640))?;
            drop(file);
            let known = fs::metadata(&path)?;
            assert_eq!((known.modified()?, known.mode() & 0o7777), (time, 0o640));
            std::os::unix::fs::chown(&path, Some(1), Some(65_534))?;
            let known = fs::metadata(&path)?;
            assert_eq!((known.uid(), known.gid()), (1, 65_534));
            std::os::unix::fs::chown(&path, Some(3_000_111), None)?;
            assert_eq!(fs::metadata(&path)?.uid(), 3_000_111);
            fs::set_permissions(at, fs::Permissions::from_mode(0o1777))?;
            assert_eq!(fs::metadata(at)?.mode() & 0o7777, 0o1777);
            Ok(())
        })
        .await?;
    let status = client.stat("/f").await?;
    assert_eq!(
        (status.mode, status.owner.as_str(), status.modified.0),
        (0o640, "3000111", 1_234_567_890_123)
    );
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_as_programs_expect() -> anyhow::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let test = TestCluster::in_process(1).await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    mounted
        .with(|at| {
            let named = |name: &[u8]| at.join(std::ffi::OsStr::from_bytes(name));
            assert_eq!(errno(File::create(named(b"not\xffutf8"))), EILSEQ);
            assert_eq!(errno(File::create(named(b"a:b"))), EINVAL);
            assert_eq!(errno(File::create(named(&[b'n'; 256]))), ENAMETOOLONG);
            File::create(named(&[b'n'; 255]))?;
            File::create(named(b"new\nline \\ \"quoted\" \xc3\xbc"))?;
            assert_eq!(fs::read_dir(at)?.count(), 2);
            File::create(at.join("f"))?;
            assert_eq!(errno(fs::hard_link(at.join("f"), at.join("g"))), EPERM);
            assert_eq!(errno(std::os::unix::fs::symlink("f", at.join("s"))), EPERM);
            fs::create_dir_all(at.join("d/e"))?;
            assert_eq!(errno(fs::rename(at.join("d"), at.join("d/e/d"))), EINVAL);
            assert_eq!(errno(fs::rename(at.join("f"), at.join("d"))), EISDIR);
            assert_eq!(errno(fs::rename(at.join("d"), at.join("f"))), ENOTDIR);
            fs::create_dir_all(at.join("full/x"))?;
            assert_eq!(errno(fs::rename(at.join("d"), at.join("full"))), ENOTEMPTY);
            assert_eq!(errno(File::open(at.join("f/x"))), ENOTDIR);
            Ok(())
        })
        .await?;
    let read_only = Mounted::new(&test.cluster.url(), &["--read-only"]).await?;
    read_only
        .with(|at| {
            assert_eq!(errno(File::create(at.join("new"))), EROFS);
            assert_eq!(errno(fs::remove_file(at.join("f"))), EROFS);
            assert_eq!(fs::read(at.join("f"))?, b"");
            Ok(())
        })
        .await?;
    drop((mounted, read_only));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subfolder_is_mounted_and_large_folders_are_listed_whole() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    client.mkdirs("/a/b").await?;
    let names = (0..3_000).map(|number| format!("/a/b/n{number:05}"));
    for name in names {
        client.create(&name).expect_empty().await?.close().await?;
    }
    let mounted = Mounted::new(&format!("{}/a/b", test.cluster.url()), &[]).await?;
    mounted
        .with(|at| {
            let mut names: Vec<_> =
                fs::read_dir(at)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?;
            names.sort();
            assert_eq!(names.len(), 3_000);
            assert_eq!((names[0].to_str(), names[2_999].to_str()), (Some("n00000"), Some("n02999")));
            assert_eq!(fs::metadata(at)?.ino(), 1);
            Ok(())
        })
        .await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn usual_programs_work() -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    mounted
        .with(|at| {
            let run = |script: &str| {
                let script = format!("set -e; cd {}; {script}", quoted(at));
                let output = limited(&["bash".into(), "-c".into(), script.clone()])?;
                anyhow::ensure!(output.success, "{script}: {}{}", output.out, output.error);
                anyhow::Ok(output.out)
            };
            run("mkdir src; for i in $(seq 50); do echo $i > src/$i; done; cp -a src copy; diff -r src copy")?;
            run("tar cf t.tar src; mkdir x; tar xf t.tar -C x; diff -r src x/src; rm -rf x")?;
            run("dd if=/dev/urandom of=r bs=1M count=20 status=none; cp r r2; cmp r r2")?;
            run("(echo a; echo b) > two; echo c >> two; test \"$(cat two)\" = \"$(printf 'a\\nb\\nc')\"")?;
            run("sed -i s/b/B/ two; grep -q B two; find . -name two | grep -q two; df . > /dev/null; du -s . > /dev/null")?;
            run("git init -q repo; cd repo; git config user.email a@b; git config user.name n; echo x > f; git add f; git commit -qm one; git fsck; cd ..; git clone -q repo clone; cmp repo/f clone/f")?;
            Ok(())
        })
        .await?;
    drop(mounted);
    test.stop().await;
    Ok(())
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}
