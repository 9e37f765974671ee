use std::time::Duration;

use steadfs_common::{CallKey, FsErrorKind, FsResult, Millis};

use super::world::{World, append, create, delete, mkdirs, rename, user};
use crate::command::RenameMode;
use crate::namespace::retry::{Age, expired};
use crate::view::View;
use crate::{Command, Reply};

fn key(call: i32) -> CallKey {
    CallKey { client: [7; 16], call }
}

fn call(world: &mut World, number: i32, command: &Command) -> FsResult<Reply> {
    world.run_as(&user("ann"), Some(key(number)), command)
}

#[test]
fn a_repeated_call_gets_the_first_answer() {
    let mut world = World::new();
    let Reply::File(file) = call(&mut world, 1, &create("/open/f", "c1")).unwrap() else { panic!() };
    let before = world.view.clone();
    assert_eq!(call(&mut world, 1, &create("/open/f", "c1")), Ok(Reply::File(file.clone())));
    assert_eq!(world.view, before);
    assert!(world.effects.is_empty());
    assert_eq!(
        call(&mut world, 2, &create("/open/f", "c1")).unwrap_err().kind(),
        FsErrorKind::AlreadyBeingCreated,
        "another call is another call"
    );
    world.complete(&file, None).unwrap();
    let first = call(&mut world, 3, &append("/open/f", "c1"));
    assert!(matches!(first, Ok(Reply::Appended { .. })));
    assert_eq!(call(&mut world, 3, &append("/open/f", "c1")), first);
    world.complete(&file, None).unwrap();

    let renamed = rename("/open/f", "/open/g", RenameMode::Classic);
    assert_eq!(call(&mut world, 4, &renamed), Ok(Reply::Bool(true)));
    assert_eq!(call(&mut world, 4, &renamed), Ok(Reply::Bool(true)));
    assert_eq!(call(&mut world, 5, &renamed), Ok(Reply::Bool(false)));
    assert_eq!(call(&mut world, 6, &delete("/open/g", false)), Ok(Reply::Bool(true)));
    world.safe_mode = Some(String::new());
    assert_eq!(call(&mut world, 6, &delete("/open/g", false)), Ok(Reply::Bool(true)), "in safe mode too");
    world.safe_mode = None;
    assert_eq!(call(&mut world, 3, &append("/open/f", "c1")).unwrap_err().kind(), FsErrorKind::NotFound);
}

#[test]
fn an_append_in_a_block_is_answered_with_it_again() {
    let mut world = World::new();
    world.file("ann", "/open/f", &[10]);
    let first = call(&mut world, 3, &append("/open/f", "c1"));
    assert!(matches!(&first, Ok(Reply::Appended { last: Some(last), .. }) if last.storages.len() == 2));
    assert_eq!(call(&mut world, 3, &append("/open/f", "c1")), first);
}

#[test]
fn a_number_used_for_something_else_is_refused() {
    let mut world = World::new();
    call(&mut world, 1, &create("/open/f", "c1")).unwrap();
    assert_eq!(
        call(&mut world, 1, &delete("/open/f", false)).unwrap_err().kind(),
        FsErrorKind::InvalidArgument
    );
}

#[test]
fn calls_without_a_number_and_harmless_ones_are_not_saved() {
    let mut world = World::new();
    call(&mut world, -1, &create("/open/f", "c1")).unwrap();
    call(&mut world, 1, &mkdirs("/open/d", 0o755)).unwrap();
    assert!(call(&mut world, 2, &delete("/open/none", false)).is_ok());
    assert!(call(&mut world, 3, &rename("/open/n", "/open/m", RenameMode::NoReplace)).is_err());
    let saved: Vec<i32> = world.view.retries(None, 10).iter().map(|(key, _)| key.call).collect();
    assert_eq!(saved, [2], "nor failed ones");
}

fn age(world: &World) -> Age {
    Age { even: world.even, steady: world.steady, expiry: world.settings.retry_expiry }
}

fn forgotten(world: &World) -> usize {
    expired(&world.view, age(world), None, 10).0.len()
}

#[test]
fn a_jump_of_the_clock_forgets_no_answer_early_and_keeps_none_for_long() {
    let (day, moment) = (Duration::from_secs(86_400), Duration::from_secs(599));
    for forwards in [true, false] {
        let mut world = World::new();
        world.now = world.now.plus(day * 2);
        call(&mut world, 1, &delete("/open/none", false)).unwrap();
        world.now = if forwards { world.now.plus(day) } else { Millis(world.now.0 - day.as_millis() as u64) };
        world.pass(moment);
        assert_eq!(forgotten(&world), 0, "its time is not over");
        let keep = Command::ForgetCalls { keys: vec![key(1)] };
        world.run("hdfs", &keep).unwrap();
        assert_eq!(world.view.retries(None, 10).len(), 1);
        world.pass(Duration::from_secs(1));
        assert_eq!(forgotten(&world), 1);
        world.run("hdfs", &keep).unwrap();
        assert!(world.view.retries(None, 10).is_empty());
    }
}

#[test]
fn answers_of_a_process_whose_clock_was_off_are_kept_as_long_as_others() {
    for off in [-86_400_000_i64, -600_000, 0, 600_000, 86_400_000] {
        let mut world = World::new();
        let began = world.even.0 + 200_000_000;
        world.even = Millis(began.saturating_add_signed(off));
        call(&mut world, 1, &delete("/open/none", false)).unwrap();
        // The next process reads the right time.
        (world.even, world.steady) = (Millis(began), Millis(0));
        world.pass(Duration::from_secs(599));
        assert_eq!(forgotten(&world), 0, "{off}");
        world.pass(Duration::from_secs(601));
        assert_eq!(forgotten(&world), 1, "{off}");
    }
}

#[test]
fn old_answers_are_forgotten_in_pages() {
    let mut world = World::new();
    for number in 0..5 {
        world.pass(Duration::from_secs(60));
        call(&mut world, number, &delete("/open/none", false)).unwrap();
    }
    world.pass(Duration::from_secs(600 - 120));
    let (first, next) = expired(&world.view, age(&world), None, 2);
    assert_eq!((first.as_slice(), next), (&[key(0), key(1)][..], Some(key(1))));
    let (rest, end) = expired(&world.view, age(&world), next.as_ref(), 10);
    assert_eq!((rest.as_slice(), end), (&[key(2)][..], None));
    let keys = vec![key(0), key(2), key(4), key(99)];
    assert_eq!(world.run("hdfs", &Command::ForgetCalls { keys }), Ok(Reply::Done));
    let left: Vec<i32> = world.view.retries(None, 10).iter().map(|(key, _)| key.call).collect();
    assert_eq!(left, [1, 3, 4], "one that is still valid stays");
}

#[test]
fn a_clock_that_jumps_has_no_call_carried_out_twice() {
    let mut world = World::new();
    world.create("ann", "/open/f").unwrap();
    assert_eq!(call(&mut world, 1, &delete("/open/f", false)), Ok(Reply::Bool(true)));
    world.create("ann", "/open/f").unwrap();
    world.now = world.now.plus(Duration::from_secs(86_400));
    assert_eq!(call(&mut world, 1, &delete("/open/f", false)), Ok(Reply::Bool(true)));
    assert!(world.inode("/open/f").is_some(), "the answer was given again, nothing was deleted");
}
