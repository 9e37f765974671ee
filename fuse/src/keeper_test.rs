//! A keeper over real sockets.

use std::fs::File;
use std::io::{Read, Seek, Write};

use super::*;

fn file(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn read(descriptor: OwnedFd) -> String {
    let mut file = File::from(descriptor);
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Starts a keeper on a thread that ends with the test's process.
fn start(path: &Path) {
    let store = Store::start(path).unwrap();
    std::thread::spawn(move || store.serve());
}

#[test]
fn what_is_left_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/keeper.sock");
    start(&path);
    let keeper = Keeper::connect(&path).unwrap();
    assert!(keeper.next("").unwrap().is_none());
    let (a, b) = (file("a"), file("b"));
    keeper.put("one", b"first", &[a.as_fd(), b.as_fd()]).unwrap();
    keeper.put("two", b"second", &[b.as_fd()]).unwrap();
    keeper.put("two", b"again", &[a.as_fd()]).unwrap();
    // The one who left them ends.
    drop((a, b, keeper));
    let keeper = Keeper::connect(&path).unwrap();
    let all = keeper.all().unwrap();
    assert_eq!(all.len(), 2);
    let mut all = all.into_iter();
    let (one, two) = (all.next().unwrap(), all.next().unwrap());
    assert_eq!((one.name.as_str(), one.blob.as_slice()), ("one", b"first".as_slice()));
    assert_eq!(one.descriptors.into_iter().map(read).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((two.blob.as_slice(), two.descriptors.len()), (b"again".as_slice(), 1));
    keeper.drop_name("one").unwrap();
    keeper.drop_name("one").unwrap();
    assert_eq!(keeper.all().unwrap().len(), 1);
    assert!(!keeper.is_gone());
}

#[test]
fn a_successor_takes_everything_and_then_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keeper.sock");
    start(&path);
    let before = Keeper::connect(&path).unwrap();
    for number in 0..40 {
        let kept = file(&number.to_string());
        before.put(&format!("n{number:02}"), b"x", &[kept.as_fd()]).unwrap();
    }
    start(&path);
    // Who was connected is sent away.
    while !before.is_gone() {
        std::thread::yield_now();
    }
    let after = Keeper::connect(&path).unwrap();
    let texts: Vec<String> = after
        .all()
        .unwrap()
        .into_iter()
        .map(|kept| read(kept.descriptors.into_iter().next().unwrap()))
        .collect();
    assert_eq!(texts, (0..40).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_successor_that_ends_half_way_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keeper.sock");
    start(&path);
    let keeper = Keeper::connect(&path).unwrap();
    let kept = file("x");
    keeper.put("one", b"", &[kept.as_fd()]).unwrap();
    let successor = Keeper::connect(&path).unwrap();
    successor.take_over().unwrap();
    assert_eq!(successor.all().unwrap().len(), 1);
    drop(successor);
    assert_eq!(keeper.all().unwrap().len(), 1);
    keeper.put("two", b"", &[kept.as_fd()]).unwrap();
    assert_eq!(Keeper::connect(&path).unwrap().all().unwrap().len(), 2);
}

#[test]
fn what_makes_no_sense_is_refused_and_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keeper.sock");
    start(&path);
    let keeper = Keeper::connect(&path).unwrap();
    let kept = file("x");
    assert!(keeper.put("", b"", &[kept.as_fd()]).unwrap_err().to_string().contains("name"));
    assert!(keeper.put("a", b"", &[]).unwrap_err().to_string().contains("descriptor"));
    assert!(keeper.put("a", &[0; MAX_BLOB + 1], &[kept.as_fd()]).is_err());
    assert!(keeper.ask(99, "", &[], &[]).unwrap_err().to_string().contains("older version"));
    for garbage in
        [&b"x"[..], &[9, 1, 0, 0], &[VERSION, PUT, 255, 255, 1], &[VERSION, PUT, 1, 0, 0xff], &[0; 20_000]]
    {
        let stranger = Keeper::connect(&path).unwrap();
        rustix::net::send(&stranger.socket, garbage, SendFlags::NOSIGNAL).unwrap();
        assert!(receive(&stranger.socket).map_or(true, |answer| answer.is_none()));
    }
    keeper.put("a", b"", &[kept.as_fd()]).unwrap();
    assert_eq!(keeper.all().unwrap().len(), 1);
}
