//! What the parser takes, and how a run ends.

use clap::{Parser, Subcommand};

use super::*;

#[derive(Parser)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Fs(FsArgs),
    Admin(AdminArgs),
}

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("steadfs").chain(line.split_whitespace());
    Program::try_parse_from(words).map(|program| program.command)
}

fn fs(line: &str) -> FsArgs {
    match parse(&format!("fs {line}")) {
        Ok(Command::Fs(args)) => args,
        Ok(Command::Admin(_)) => panic!("{line} is not of admin"),
        Err(error) => panic!("{line}: {error}"),
    }
}

#[test]
fn the_definition_holds_together() {
    use clap::CommandFactory;
    Program::command().debug_assert();
}

#[test]
fn lines_that_people_type() {
    assert!(matches!(fs("ls").command, FsCommand::Ls(args) if args.paths == ["/"]));
    assert!(matches!(fs("ls -lR /a /b").command, FsCommand::Ls(args) if args.long && args.recursive));
    assert!(
        matches!(fs("chmod -x /a").command, FsCommand::Chmod(args) if args.mode.apply(0o755, false) == 0o644)
    );
    assert!(matches!(fs("chmod -R u+w,go-w /a").command, FsCommand::Chmod(args) if args.recursive));
    assert!(matches!(fs("put --block-size 64MiB a b /c").command, FsCommand::Put(args)
        if args.write.block_size == Some(64 << 20) && args.paths.len() == 3));
    assert!(matches!(fs("put - /c").command, FsCommand::Put(args) if args.paths[0] == "-"));
    assert!(matches!(fs("get /c -").command, FsCommand::Get(args) if args.paths[1] == "-"));
    assert!(
        matches!(fs("tail -c 4k -f /x").command, FsCommand::Tail(args) if args.bytes == 4096 && args.follow)
    );
    assert!(matches!(fs("setrep 2 /x").command, FsCommand::Setrep(args) if args.replication == 2));
    assert_eq!(fs("--fs hdfs://h:1 ls").connection.fs.as_deref(), Some("hdfs://h:1"));
    assert_eq!(fs("ls --fs hdfs://h:1").connection.fs.as_deref(), Some("hdfs://h:1"));
    for line in [
        "admin report --json",
        "admin --fs hdfs://h:1 datanodes",
        "admin safemode enter",
        "admin fsck /x -a",
        "admin balance --threshold 5%",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn lines_that_make_no_sense() {
    for line in [
        "fs",
        "fs cat",
        "fs put a",
        "fs setrep 0 /x",
        "fs chmod u*x /a",
        "fs put --jobs 0 a /b",
        "admin safemode",
        "admin balance --threshold 0",
        "admin balance --threshold 101",
    ] {
        let error = parse(line).err().unwrap_or_else(|| panic!("{line} was taken"));
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

fn code(result: Outcome<()>, failed: bool) -> String {
    let mut run = Run::new("steadfs fs test");
    if failed {
        run.mark_failed();
    }
    format!("{:?}", end(&mut run, result))
}

#[test]
fn exit_codes() {
    let shown = |code: ExitCode| format!("{code:?}");
    assert_eq!(code(Ok(()), false), shown(ExitCode::SUCCESS));
    assert_eq!(code(Ok(()), true), shown(ExitCode::FAILURE));
    assert_eq!(code(Err(Failure::Pipe), false), shown(ExitCode::SUCCESS));
    assert_eq!(code(Err(Failure::usage("x")), false), shown(ExitCode::from(2)));
    assert_eq!(code(Err(Failure::other("x")), false), shown(ExitCode::FAILURE));
}

#[tokio::test]
async fn nobody_there_ends_with_one_and_soon() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    let args = fs(&format!("ls --fs hdfs://{free}"));
    assert_eq!(format!("{:?}", run_fs(args).await), format!("{:?}", ExitCode::FAILURE));
}
