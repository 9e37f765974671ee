//! Files that lose their names while somebody has them open.

use steadfs_common::{FsErrorKind, InodeId};

use super::world::{World, create, mkdirs, named, path, user};
use crate::command::{Effect, RenameMode};
use crate::namespace::kept::{folder, page};
use crate::namespace::read::{Reader, full_path, is_detached};
use crate::record::Inode;
use crate::view::View;
use crate::{Command, Reply};

fn delete(at: &str) -> Command {
    Command::Delete { path: path(at), recursive: true }
}

fn rename(from: &str, to: &str) -> Command {
    Command::Rename { from: path(from), to: path(to), mode: RenameMode::Overwrite, to_trash: false }
}

fn let_go(world: &mut World) {
    let files = page(&world.view, None, usize::MAX).into_iter().map(|(_, id)| id).collect();
    assert_eq!(world.run("hdfs", &Command::LetGo { files }), Ok(Reply::Done));
}

/// A file of ann's that somebody has open.
fn open(world: &mut World, at: &str) -> Inode {
    let file = world.file("ann", at, &[700]);
    world.open.files.insert(file.id);
    file
}

fn blocks(world: &World, file: &Inode) -> usize {
    world.view.file_blocks(file.id, 0, usize::MAX).len()
}

#[test]
fn whatever_takes_its_name_an_open_file_stays() {
    let mut world = World::new();
    let deleted = open(&mut world, "/open/a");
    let replaced = open(&mut world, "/open/b");
    let overwritten = open(&mut world, "/open/c");
    let below = open(&mut world, "/open/d/e/f");
    let other = world.file("ann", "/open/d/e/g", &[700]);
    world.file("ann", "/open/new", &[100]);
    let totals = world.view.totals(world.inode("/open").unwrap().id).space;

    assert_eq!(world.run("ann", &delete("/open/a")), Ok(Reply::Bool(true)));
    assert!(world.effects.is_empty(), "no block goes");
    assert_eq!(world.events.len(), 1, "that it has no name any more is told as ever");
    world.run("ann", &rename("/open/new", "/open/b")).unwrap();
    let mut again = create("/open/c", "c2");
    if let Command::Create { overwrite, .. } = &mut again {
        *overwrite = true;
    }
    world.run("ann", &again).unwrap();
    assert_eq!(world.run("ann", &delete("/open/d")), Ok(Reply::Bool(true)));
    world.reclaim_all();
    assert_eq!(world.by_id(other.id), None);
    assert!(
        world.view.totals(world.inode("/open").unwrap().id).space < totals,
        "no quota below the root counts them"
    );

    for file in [&deleted, &replaced, &overwritten, &below] {
        assert!(!is_detached(&world.view, file.id));
        assert_eq!(blocks(&world, file), 1);
        let caller = user("ann");
        let reader = Reader { view: &world.view, caller: &caller, settings: &world.settings };
        let at = path(&format!("/.reserved/.inodes/{}", file.id));
        assert_eq!(reader.blocks(&at, 0, u64::MAX, 10).unwrap().length, 700);
        let listed = reader.list(&path("/"), None, 1).unwrap().unwrap();
        assert_eq!(listed.page.rows.len(), 1, "nobody lists them");
        assert!(!listed.page.more);
    }
    let_go(&mut world);
    assert_eq!(page(&world.view, None, usize::MAX).len(), 4);
    world.open.files.remove(&below.id);
    let_go(&mut world);
    assert_eq!(world.by_id(below.id), None);
    assert!(world.effects.iter().any(|effect| matches!(effect, Effect::Removed { .. })));
    assert!(world.events.is_empty(), "it was told before");
    world.open.files.clear();
    let_go(&mut world);
    assert!(page(&world.view, None, usize::MAX).is_empty());
}

#[test]
fn who_writes_a_file_that_lost_its_name_goes_on() {
    let mut world = World::new();
    let file = world.create("ann", "/open/a").unwrap();
    let first = world.add_block(&file, None).unwrap();
    world.open.files.insert(file.id);
    world.run("ann", &delete("/open/a")).unwrap();
    let mut last = named(&first);
    last.length = 1_000;
    let second = world.add_block(&file, Some(last)).unwrap();
    assert!(world.events.is_empty(), "nobody is told of what has no name");
    let mut last = named(&second);
    last.length = 5;
    assert_eq!(world.complete(&file, Some(last)), Ok(true));
    let at = path(&format!("/.reserved/.inodes/{}", file.id));
    world.run("ann", &Command::Append { path: at.clone(), client: "c1".into(), new_block: false }).unwrap();
    assert_eq!(world.complete(&file, Some(last)), Ok(true));
    world.run("ann", &Command::Truncate { path: at.clone(), length: 1_000, client: "c1".into() }).unwrap();
    let staged = world.run("ann", &Command::Stage { path: at.clone(), client: "s".into(), block_size: 0 });
    let Ok(Reply::File(staged)) = staged else { panic!("{staged:?}") };
    let replace = Command::ReplaceContent {
        path: at,
        staged: staged.id,
        client: "s".into(),
        last: None,
        expected: None,
    };
    assert_eq!(world.run("ann", &replace), Ok(Reply::Bool(true)));
    assert_eq!(blocks(&world, &file), 0);
    // Its writer dies, and nobody has it open any more.
    world
        .run("ann", &Command::Append { path: path("/open/none"), client: "c1".into(), new_block: false })
        .unwrap_err();
    world.open.files.clear();
    let_go(&mut world);
    assert_eq!(world.by_id(file.id), None);
    assert!(world.view.leases(None, 10).is_empty());
}

#[test]
fn after_a_start_every_file_may_be_open() {
    let mut world = World::new();
    let file = world.file("ann", "/open/a", &[700]);
    let tree = world.file("ann", "/open/d/f", &[700]);
    world.open.unknown = true;
    world.run("ann", &delete("/open/a")).unwrap();
    world.run("ann", &delete("/open/d")).unwrap();
    assert_eq!(world.run("hdfs", &Command::Reclaim { limit: 100 }), Ok(Reply::Bool(false)), "it comes again");
    let_go(&mut world);
    assert_eq!((blocks(&world, &file), blocks(&world, &tree)), (1, 1));
    world.open.unknown = false;
    world.open.files.insert(tree.id);
    world.reclaim_all();
    let_go(&mut world);
    assert_eq!((world.by_id(file.id), blocks(&world, &tree)), (None, 1));
}

#[test]
fn an_open_file_of_a_deleted_tree_need_not_wait_for_the_tree() {
    let mut world = World::new();
    let file = open(&mut world, "/open/d/e/f");
    let closed = world.file("ann", "/open/d/e/g", &[700]);
    let elsewhere = open(&mut world, "/open/h");
    world.run("ann", &delete("/open/d")).unwrap();
    assert!(is_detached(&world.view, file.id));
    let files = vec![file.id, closed.id, elsewhere.id, InodeId(1 << 40)];
    for _ in 0..2 {
        assert_eq!(world.run("hdfs", &Command::LetGo { files: files.clone() }), Ok(Reply::Done));
        assert!(!is_detached(&world.view, file.id));
        assert!(is_detached(&world.view, closed.id), "nobody has it open");
        assert_eq!(full_path(&world.view, elsewhere.id), Some(path("/open/h")), "it has its name still");
    }
    world.reclaim_all();
    assert_eq!((blocks(&world, &file), world.by_id(closed.id)), (1, None));
    world.open.files.clear();
    let_go(&mut world);
    assert_eq!(world.by_id(file.id), None);
    assert_eq!(world.inode("/open/h").unwrap().id, elsewhere.id);
}

#[test]
fn who_might_not_pass_its_folders_opens_no_file_that_lost_its_name() {
    let mut world = World::new();
    for (at, mode) in [("/open/p", 0o750), ("/open/p/all", 0o755), ("/open/q", 0o755)] {
        assert_eq!(world.mkdirs("ann", at, mode), Ok(Reply::Done));
        let staff = Command::SetOwner { path: path(at), owner: None, group: Some("staff".into()) };
        assert_eq!(world.run("ann", &staff), Ok(Reply::Done));
    }
    let places = ["/open/p/a", "/open/p/all/b", "/open/q/c"];
    let files = places.map(|at| open(&mut world, at));
    let may = |world: &World, who: &str, file: &Inode| {
        let caller = user(who);
        let reader = Reader { view: &world.view, caller: &caller, settings: &world.settings };
        match reader.blocks(&path(&format!("/.reserved/.inodes/{}", file.id)), 0, u64::MAX, 10) {
            Ok(found) => found.length == 700,
            Err(error) => {
                assert_eq!(error.kind(), FsErrorKind::AccessDenied, "{error}");
                false
            }
        }
    };
    // Bob is of the folder's group, eve is not.
    let all = |world: &World| {
        ["ann", "bob", "eve", "hdfs"].map(|who| files.each_ref().map(|file| may(world, who, file)))
    };
    let named = all(&world);
    assert_eq!(named, [[true; 3], [true; 3], [false, false, true], [true; 3]]);
    for at in places {
        world.run("ann", &delete(at)).unwrap();
        assert_eq!(world.inode(at), None);
    }
    assert_eq!(all(&world), named);
    let by_id = path(&format!("/.reserved/.inodes/{}", files[0].id));
    let append = Command::Append { path: by_id, client: "c1".into(), new_block: false };
    assert_eq!(world.run("eve", &append).unwrap_err().kind(), FsErrorKind::AccessDenied);
    // The folder that not everybody may pass is still there, and what it allows counts.
    world.run("ann", &delete("/open/p/all")).unwrap();
    world.reclaim_all();
    assert_eq!(all(&world), named);
    world.run("ann", &Command::SetPermission { path: path("/open/p"), mode: 0o700 }).unwrap();
    assert_eq!(all(&world)[1], [false, false, true]);
    world.run("ann", &delete("/open/p")).unwrap();
    world.reclaim_all();
    assert_eq!(
        all(&world),
        [[true; 3], [false, false, true], [false, false, true], [true; 3]],
        "what nobody knows is refused"
    );
    world.open.files.clear();
    let_go(&mut world);
    assert!(page(&world.view, None, usize::MAX).is_empty());
}

#[test]
fn nobody_gets_at_the_folder_of_kept_files_by_its_name() {
    let mut world = World::new();
    let file = open(&mut world, "/open/a");
    world.run("ann", &delete("/open/a")).unwrap();
    let kept = format!("/.reserved/{}", file.id);
    let by_id = format!("/.reserved/.inodes/{}", file.id);
    for at in [&kept, &by_id] {
        let refused = world.run("hdfs", &rename(at, "/open/back")).unwrap_err().kind();
        assert_eq!(refused, FsErrorKind::NotFound);
        assert_eq!(world.run("ann", &delete(at)).unwrap_err().kind(), FsErrorKind::AccessDenied);
        let sources = vec![path(at)];
        assert!(world.run("hdfs", &Command::Concat { target: path("/open/b"), sources }).is_err());
    }
    for command in [
        mkdirs("/.reserved", 0o777),
        mkdirs("/.reserved/x", 0o777),
        delete("/.reserved"),
        create("/.reserved/y", "c"),
    ] {
        assert!(world.run("hdfs", &command).is_err(), "{command:?}");
    }
    // A superuser may let one go that is open.
    assert_eq!(world.run("hdfs", &delete(&kept)), Ok(Reply::Bool(true)));
    assert_eq!(world.by_id(file.id), None);
    assert_eq!(world.run("hdfs", &Command::LetGo { files: vec![file.id, InodeId(1)] }), Ok(Reply::Done));
    assert!(folder(&world.view).is_some());
}
