//! Locks across mounts: `flock` and `fcntl`, as programs take them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use steadfs_client::{InodeId, LockResult, LockTarget, LockWish};
use steadfs_tests::{TestCluster, eventually};

use crate::beyond::is_read_without;
use crate::mounted::{Mounted, Program, python};

/// What the programs below begin with: a way to say something at once, and a lock that is tried.
const TOOLS: &str = "\
import errno, fcntl, os, signal, struct, sys
def say(text): print(text, flush=True)
def tried(call, *args):
    try: call(*args)
    except OSError as error: return errno.errorcode[error.errno]
    return 'ok'
def flocked(file, kind): return tried(fcntl.flock, file, kind | fcntl.LOCK_NB)
def ranged(file, kind, length, start): return tried(fcntl.lockf, file, kind | fcntl.LOCK_NB, length, start)
EX, SH, UN = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_UN
path = sys.argv[1] + '/f'
";

fn program(at: &Path, text: &str) -> anyhow::Result<Program> {
    Program::start(&format!("{TOOLS}{text}"), at)
}

fn answer(at: &Path, text: &str) -> anyhow::Result<String> {
    Ok(python(&format!("{TOOLS}{text}"), at)?.trim().to_owned())
}

/// Two mounts of one cluster, with an empty file.
async fn two(test: &TestCluster) -> anyhow::Result<(Mounted, Mounted)> {
    let (one, two) =
        (Mounted::new(&test.cluster.url(), &[]).await?, Mounted::new(&test.cluster.url(), &[]).await?);
    one.with(|at| Ok(fs::write(at.join("f"), "")?)).await?;
    Ok((one, two))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_here_is_in_the_way_there() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let (one, two) = two(&test).await?;
    let other = two.path("");
    one.with(move |at| {
        // `flock` and `fcntl` know nothing of each other, and two shared locks go together.
        let mut holder = program(
            at,
            "f = open(path, 'r+'); g = open(path)\n\
             fcntl.flock(f, EX); fcntl.lockf(f, EX, 10, 100); fcntl.lockf(g, SH, 10, 0); say('held')\n\
             sys.stdin.readline(); fcntl.flock(f, UN); say('one less')\n\
             sys.stdin.readline(); g.close(); say('closed')\n\
             sys.stdin.readline()\n",
        )?;
        holder.hears("held")?;
        let state = "f = open(path, 'r+'); say((flocked(f, EX), ranged(f, SH, 5, 105), ranged(f, EX, 5, 200), \
                     ranged(f, SH, 5, 0), ranged(f, EX, 5, 0)))\n";
        assert_eq!(answer(&other, state)?, "('EAGAIN', 'EAGAIN', 'ok', 'ok', 'EAGAIN')");
        // Who is in the way is told, and that it is nobody of this machine's mount.
        let asked = "f = open(path, 'r+')\n\
                     asked = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 90, 15, 0)\n\
                     say(struct.unpack('hhqqi4x', fcntl.fcntl(f, fcntl.F_GETLK, asked))[:4])\n";
        assert_eq!(answer(&other, asked)?, "(1, 0, 100, 10)");
        holder.say("go on")?;
        holder.hears("one less")?;
        assert_eq!(answer(&other, state)?, "('ok', 'EAGAIN', 'ok', 'ok', 'EAGAIN')");
        // Closing any descriptor of a file ends all `fcntl` locks of the process.
        holder.say("go on")?;
        holder.hears("closed")?;
        assert_eq!(answer(&other, state)?, "('ok', 'ok', 'ok', 'ok', 'ok')");
        Ok(())
    })
    .await?;
    drop((one, two));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_gets_the_lock_or_an_interrupt() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let (one, two) = two(&test).await?;
    let other = two.path("");
    one.with(move |at| {
        let mut holder = program(
            at,
            "f = open(path, 'r+'); fcntl.flock(f, EX); fcntl.lockf(f, EX); say('held')\n\
             sys.stdin.readline(); os._exit(0)\n",
        )?;
        holder.hears("held")?;
        // An alarm ends a wait for a lock, as programs that wait for a time rely on.
        for wait in ["fcntl.flock(f, EX)", "fcntl.lockf(f, EX)"] {
            let alarmed = format!(
                "class Enough(Exception): pass\n\
                 def enough(*_): raise Enough\n\
                 signal.signal(signal.SIGALRM, enough); f = open(path, 'r+'); signal.setitimer(signal.ITIMER_REAL, 0.2)\n\
                 try: {wait}; say('had it')\n\
                 except Enough: say('enough')\n"
            );
            assert_eq!(answer(&other, &alarmed)?, "enough", "{wait}");
        }
        // So does a kill.
        let mut killed = program(&other, "f = open(path, 'r+'); say('waits'); fcntl.flock(f, EX); say('had it')\n")?;
        killed.hears("waits")?;
        std::thread::sleep(Duration::from_millis(300));
        killed.kill()?;
        let mut waiter = program(
            &other,
            "f = open(path, 'r+'); say('waits'); fcntl.flock(f, EX); fcntl.lockf(f, EX); say('had both')\n\
             sys.stdin.readline()\n",
        )?;
        waiter.hears("waits")?;
        // A process that goes takes its locks with it.
        holder.say("go")?;
        waiter.hears("had both")?;
        Ok(())
    })
    .await?;
    drop((one, two));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_each_other_is_refused() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let (one, two) = two(&test).await?;
    let other = two.path("");
    one.with(move |at| {
        let mut first = program(
            at,
            "f = open(path, 'r+'); fcntl.lockf(f, EX, 1, 0); say('held'); sys.stdin.readline()\n\
             while tried(fcntl.lockf, f, EX, 1, 1) == 'EDEADLOCK': pass\n\
             say('had it')\n",
        )?;
        first.hears("held")?;
        let mut second = program(
            &other,
            // Its wait may come first: then it is the other that would close the circle, and comes again.
            "class Again(Exception): pass\n\
             def again(*_): raise Again\n\
             signal.signal(signal.SIGALRM, again); f = open(path, 'r+'); fcntl.lockf(f, EX, 1, 1); say('held')\n\
             sys.stdin.readline(); said = None\n\
             while said is None:\n\
             \x20   signal.setitimer(signal.ITIMER_REAL, 0.3)\n\
             \x20   try: said = tried(fcntl.lockf, f, EX, 1, 0)\n\
             \x20   except Again: pass\n\
             signal.setitimer(signal.ITIMER_REAL, 0); say(said)\n",
        )?;
        second.hears("held")?;
        first.say("wait")?;
        second.say("wait")?;
        second.hears("EDEADLOCK")?;
        // It ends, and its lock with it.
        first.hears("had it")?;
        Ok(())
    })
    .await?;
    drop((one, two));
    test.stop().await;
    Ok(())
}

/// A program that adds one to a number in a file, under a lock, without ever closing the file.
const COUNTER: &str = "\
f = open(path, 'r+b', buffering=0)
for round in range(int(sys.argv[2])):
    LOCK
    number = int(os.pread(f.fileno(), 20, 0) or b'0')
    os.pwrite(f.fileno(), str(number + 1).encode(), 0)
    UNLOCK
say('done')
";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_under_a_lock_is_seen_under_the_next() -> anyhow::Result<()> {
    const ROUNDS: usize = 12;
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let (one, two) = two(&test).await?;
    let mut expected = 0;
    for (lock, unlock) in
        [("fcntl.flock(f, EX)", "fcntl.flock(f, UN)"), ("fcntl.lockf(f, EX)", "fcntl.lockf(f, UN)")]
    {
        let text = COUNTER.replace("UNLOCK", unlock).replace("LOCK", lock);
        let text = text.replace("int(sys.argv[2])", &ROUNDS.to_string());
        let count = |mount: &Mounted| {
            let text = text.clone();
            mount.on_thread(move |at| answer(at, &text))
        };
        let (a, b, c) = (count(&one), count(&one), count(&two));
        let done = futures::try_join!(a, b, c)?;
        assert_eq!(done, ("done".into(), "done".into(), "done".into()));
        expected += 3 * ROUNDS;
        assert_eq!(client.read("/f", 100).await?, expected.to_string());
    }
    drop((one, two));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_outlive_a_killed_server() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let (one, two) = two(&test).await?;
    let other = two.path("");
    let text = "f = open(path, 'r+'); fcntl.flock(f, EX); fcntl.lockf(f, EX, 10, 5); say('held')\n\
                sys.stdin.readline(); say(flocked(f, EX)); fcntl.flock(f, UN); say('one less'); sys.stdin.readline()\n";
    let mut holder = one.on_thread(move |at| program(at, text)).await?;
    // Who waits must not be first.
    holder.hears("held")?;
    let text =
        "f = open(path, 'r+'); say('waits'); fcntl.flock(f, EX); say('had it'); sys.stdin.readline()\n";
    let mut waiter = two.on_thread(move |at| program(at, text)).await?;
    waiter.hears("waits")?;
    std::thread::sleep(Duration::from_millis(300));
    // The server of the one who holds, and that of the one who waits.
    one.kill_server()?;
    two.kill_server()?;
    one.with(|at| Ok(fs::write(at.join("served"), "again")?)).await?;
    two.with(|at| fs::read(at.join("served")).map(|_| ()).map_err(Into::into)).await?;
    let state = "f = open(path, 'r+'); say((flocked(f, SH), ranged(f, SH, 1, 14), ranged(f, SH, 1, 15)))\n";
    assert_eq!(answer(&other, state)?, "('EAGAIN', 'EAGAIN', 'ok')");
    holder.say("is it still mine?")?;
    holder.hears("ok")?;
    holder.hears("one less")?;
    waiter.hears("had it")?;
    drop((holder, waiter));
    // Nothing is left of either.
    let free = "f = open(path, 'r+'); say((flocked(f, EX), ranged(f, EX, 100, 0)))\n";
    let at = other.clone();
    eventually("all locks are given up", async || Ok(answer(&at, free)? == "('ok', 'ok')")).await?;
    drop((one, two));
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_a_local_replica_with_former_content_is_refused() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    // Read once, so that the replica is verified: from then on it is passed through.
    mounted
        .with(|at| {
            fs::write(at.join("f"), "old")?;
            Ok(fs::read(at.join("f"))?)
        })
        .await?;
    let text = "\
def read(file): return os.pread(file.fileno(), 3, 0).decode()
def opened(): return open(path, 'rb', buffering=0)
f = opened(); say((read(f), flocked(f, SH), flocked(f, UN))); sys.stdin.readline()
say((flocked(f, SH), ranged(f, SH, 1, 0), read(f)))
g = opened(); say((flocked(g, SH), ranged(g, SH, 1, 0), read(g))); sys.stdin.readline()
h = opened(); say(read(h)); sys.stdin.readline()
say((flocked(h, SH), read(h), flocked(f, SH), read(f)))
";
    eventually("it is passed through", async || {
        let file = Arc::new(mounted.with(|at| Ok(fs::File::open(at.join("f"))?)).await?);
        is_read_without(&mounted, &file).await
    })
    .await?;
    let mut program = mounted.on_thread(move |at| program(at, text)).await?;
    let replaced = async |bytes: &'static str| {
        let mut writer = client.replace("/f").await?;
        writer.write_all(bytes).await?;
        writer.close().await
    };
    program.hears("('old', 'ok', 'ok')")?;
    replaced("new").await?;
    program.say("it has another content")?;
    // It reads on what it opened, and no lock says that this is all there is. Opened anew, it is not passed through.
    program.hears("('ESTALE', 'ESTALE', 'old')")?;
    program.hears("('ok', 'ok', 'new')")?;
    // That somebody locks it outlives a server.
    mounted.kill_server()?;
    mounted.with(|at| Ok(fs::write(at.join("served"), "again")?)).await?;
    program.say("open it once more")?;
    program.hears("new")?;
    replaced("the third").await?;
    program.say("it has yet another")?;
    program.hears("('ok', 'the', 'ESTALE', 'old')")?;
    drop(program);
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_lost_is_told() -> anyhow::Result<()> {
    let test = TestCluster::in_process(1).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &[]).await?;
    mounted.with(|at| Ok(fs::write(at.join("f"), "old")?)).await?;
    let text = "f = open(path, 'r+b', buffering=0); fcntl.flock(f, EX); say('held'); sys.stdin.readline()\n\
                say((tried(os.pwrite, f.fileno(), b'new', 0), tried(os.pread, f.fileno(), 3, 0), flocked(f, EX)))\n\
                fcntl.flock(f, UN); say(flocked(f, EX)); say(tried(os.pwrite, f.fileno(), b'new', 0))\n";
    let mut holder = mounted.on_thread(move |at| program(at, text)).await?;
    holder.hears("held")?;
    // Its whole process group stands still for longer than a session lives, and somebody else gets the lock.
    let stopped = mounted.server()?.to_string();
    let signal = |name: &str| std::process::Command::new("kill").args([name, &stopped]).status();
    ensure!(signal("-STOP")?.success());
    let session = client.lock_session().await?;
    let inode = client.stat("/f").await?.inode;
    let wish = |owner| LockWish { inode, owner, target: LockTarget::Whole, exclusive: true, pid: 1 };
    let _: InodeId = inode;
    assert!(matches!(session.lock(wish(1), false).await?, LockResult::Blocked(_)));
    assert_eq!(session.lock(wish(1), true).await?, LockResult::Granted);
    client.append("/f").await?.close().await?;
    ensure!(signal("-CONT")?.success());
    eventually("the loss is noticed", async || Ok(mounted.log().contains("a lock was lost"))).await?;
    holder.say("write")?;
    holder.hears("('EIO', 'EIO', 'ENOLCK')")?;
    session.unlock(inode, 1, LockTarget::Whole).await?;
    holder.hears("ok")?;
    holder.hears("ok")?;
    drop(holder);
    drop(mounted);
    test.stop().await;
    Ok(())
}
