//! What is staged comes back, also in another process.

use super::*;

fn place(folder: &Path, limit: u64) -> Arc<StagePlace> {
    let pool = DiskPool::new("stage", 1, 4).unwrap();
    Arc::new(StagePlace::open(&folder.join("s"), limit, pool).unwrap())
}

#[tokio::test]
async fn bytes_come_back_and_the_bound_holds() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), 100);
    let mut stage = Stage::new(place.clone(), 1, 0).await.unwrap();
    stage.hold(60).unwrap();
    stage.write(1 << 30, (1 << 30) + 5, Bytes::from_static(b"hello"), 1).await.unwrap();
    assert_eq!(stage.read((1 << 30) - 1, 8).await.unwrap(), &b"\0hello\0\0"[..]);
    let mut other = Stage::new(place.clone(), 2, 0).await.unwrap();
    assert_eq!(other.hold(41).unwrap_err().code(), Errno::ENOSPC.code());
    stage.release(20);
    other.hold(60).unwrap();
    stage.discard().await;
    other.discard().await;
    assert_eq!(place.used.load(Ordering::Relaxed), 0);
    assert_eq!(std::fs::read_dir(folder.path().join("s")).unwrap().count(), 2);
    sweep(folder.path()).unwrap();
    assert!(folder.path().join("s").exists());
    let at = folder.path().join("s");
    assert!(!left_by_servers(&at, Duration::ZERO).unwrap());
    // Whoever holds the mount waits for its servers, not for itself.
    let claimed = claim(&at).unwrap();
    drop(place);
    assert!(left_by_servers(&at, Duration::from_secs(5)).unwrap());
    drop(claimed);
    sweep(folder.path()).unwrap();
    assert!(!folder.path().join("s").exists());
}

#[tokio::test]
async fn another_process_finds_what_a_ring_holds() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), RING_BYTES + 100);
    let mut stage = Stage::new(place.clone(), 7, 0).await.unwrap();
    stage.hold(10).unwrap();
    stage.write(0, 10, Bytes::from_static(b"0123456789"), 2).await.unwrap();
    assert!(stage.begin_ring(10).await);
    let piece = 1 << 20;
    let pieces = RING_BYTES / piece + 2;
    for number in 0..pieces {
        let bytes = Bytes::from(vec![number as u8; piece as usize]);
        stage.write_ring(10 + number * piece, bytes, 4 + number).await.unwrap();
    }
    let end = 10 + pieces * piece;
    std::mem::forget(stage);
    let found = Stage::find(place.clone(), 7).await.unwrap().unwrap();
    assert_eq!((found.size, found.request), (end, 3 + pieces));
    assert!(found.extents.is_exactly(&(0..end)));
    let mut stage = found.stage;
    assert_eq!(stage.read(0, 10).await.unwrap(), &b"0123456789"[..]);
    let last = stage.read(end - 2 * piece, 2 * piece as usize).await.unwrap();
    assert_eq!((last[0], last[last.len() - 1]), (pieces as u8 - 2, pieces as u8 - 1));
    // What was written over is not taken for what it was.
    assert!(stage.read(10, 20).await.is_err());
    // Whoever goes on otherwise finds the same at the places of its own.
    stage.write(end, end + 3, Bytes::from_static(b"end"), 99).await.unwrap();
    assert_eq!(stage.ring_from(), None);
    assert_eq!(stage.read(end - 1, 4).await.unwrap(), &[pieces as u8 - 1, b'e', b'n', b'd'][..]);
    std::mem::forget(stage);
    let found = Stage::find(place, 7).await.unwrap().unwrap();
    assert_eq!((found.size, found.request), (end + 3, 99));
    assert_eq!(found.stage.read(end - 1, 4).await.unwrap(), &[pieces as u8 - 1, b'e', b'n', b'd'][..]);
    found.stage.discard().await;
    // What is left are the locks.
    assert_eq!(std::fs::read_dir(folder.path().join("s")).unwrap().count(), 2);
}

#[tokio::test]
async fn another_process_accounts_for_what_lies_there_and_not_for_what_was_given_back() {
    const PIECE: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let first = place(folder.path(), 1 << 30);
    let mut stage = Stage::new(first.clone(), 7, 0).await.unwrap();
    for number in 0..20 {
        stage.hold(PIECE).unwrap();
        let (at, bytes) = (number * PIECE, Bytes::from(vec![7; PIECE as usize]));
        stage.write(at, at + PIECE, bytes, 2 + number).await.unwrap();
    }
    stage.punch(0, 18 * PIECE).await;
    let gives_back = stage.data.metadata().unwrap().blocks() * 512 < 4 * PIECE;
    std::mem::forget(stage);
    drop(first);
    // Less than the file has in all: others can still be staged.
    let next = place(folder.path(), 10 * PIECE);
    let found = Stage::find(next.clone(), 7).await.unwrap().unwrap();
    assert!(found.extents.is_exactly(&(0..20 * PIECE)));
    // Where the file system has holes.
    if gives_back {
        assert!(next.take(6 * PIECE).is_ok());
    }
    found.stage.discard().await;
}

#[tokio::test]
async fn where_no_ring_can_be_made_bytes_go_where_they_went() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), 2 * RING_BYTES);
    let mut stage = Stage::new(place.clone(), 7, 0).await.unwrap();
    stage.hold(10).unwrap();
    stage.write(0, 10, Bytes::from_static(b"0123456789"), 2).await.unwrap();
    std::fs::create_dir(place.ring(7)).unwrap();
    assert!(!stage.begin_ring(10).await);
    assert_eq!(place.used.load(Ordering::Relaxed), 10);
    stage.write(10, 11, Bytes::from_static(b"!"), 4).await.unwrap();
    assert_eq!(stage.read(9, 2).await.unwrap(), &b"9!"[..]);
    std::fs::remove_dir(place.ring(7)).unwrap();
    assert!(stage.begin_ring(11).await);
    stage.discard().await;
}

#[tokio::test]
async fn another_process_knows_what_was_given_back_or_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), 4 * RING_BYTES);
    let mut stage = Stage::new(place.clone(), 7, 0).await.unwrap();
    stage.write(0, 10, Bytes::from_static(b"0123456789"), 2).await.unwrap();
    assert_eq!(stage.begins(), 0);
    stage.punch(0, 6).await;
    assert!(stage.begin_ring(10).await);
    stage.write_ring(10, Bytes::from_static(b"ab"), 4).await.unwrap();
    assert_eq!(stage.begins(), 6);
    std::mem::forget(stage);
    let mut stage = Stage::find(place.clone(), 7).await.unwrap().unwrap().stage;
    assert_eq!(stage.begins(), 6);
    // The ring is full once, and written over by 5 bytes.
    stage.write_ring(12, Bytes::from(vec![7; RING_BYTES as usize - 2]), 6).await.unwrap();
    assert_eq!(stage.begins(), 6);
    stage.write_ring(10 + RING_BYTES, Bytes::from_static(b"fives"), 8).await.unwrap();
    assert_eq!(stage.begins(), 15);
    std::mem::forget(stage);
    let mut stage = Stage::find(place.clone(), 7).await.unwrap().unwrap().stage;
    assert_eq!(stage.begins(), 15);
    // Without the ring there is no more than with it.
    let end = 15 + RING_BYTES;
    stage.write(end, end + 1, Bytes::from_static(b"!"), 10).await.unwrap();
    stage.now_committed(20).await.unwrap();
    std::mem::forget(stage);
    let found = Stage::find(place.clone(), 7).await.unwrap().unwrap();
    assert_eq!((found.stage.begins(), found.committed, found.size), (15, 20, end + 1));
    let mut stage = found.stage;
    stage.rebase(30, 30..end + 1, (None, None)).await.unwrap();
    std::mem::forget(stage);
    let found = Stage::find(place, 7).await.unwrap().unwrap();
    assert_eq!((found.stage.begins(), found.committed), (0, 30));
    assert_eq!(found.stage.read(end - 5, 6).await.unwrap(), &b"fives!"[..]);
    found.stage.discard().await;
}

#[tokio::test]
async fn a_log_that_was_begun_anew_tells_what_is_written_since() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), 2 * RING_BYTES);
    let mut stage = Stage::new(place.clone(), 7, 0).await.unwrap();
    stage.hold(10).unwrap();
    stage.write(0, 10, Bytes::from_static(b"0123456789"), 2).await.unwrap();
    assert!(stage.begin_ring(10).await);
    stage.write_ring(10, Bytes::from_static(b"abcdef"), 4).await.unwrap();
    let times = (None, Some(Millis(6)));
    // 12 of 16 bytes have arrived.
    stage.rebase(12, 12..16, times).await.unwrap();
    std::mem::forget(stage);
    let found = Stage::find(place.clone(), 7).await.unwrap().unwrap();
    assert_eq!((found.committed, found.kept, found.size, found.request), (12, 12, 16, 4));
    assert_eq!((found.times, found.written_over), (times, false));
    assert!(found.extents.is_exactly(&(12..16)));
    let mut stage = found.stage;
    assert_eq!(stage.read(12, 4).await.unwrap(), &b"cdef"[..]);
    // What is written over what had arrived is not taken for that.
    stage.write(0, 3, Bytes::from_static(b"new"), 6).await.unwrap();
    stage.write(13, 14, Bytes::from_static(b"-"), 8).await.unwrap();
    std::mem::forget(stage);
    let found = Stage::find(place.clone(), 7).await.unwrap().unwrap();
    assert_eq!((found.committed, found.size, found.request, found.written_over), (12, 16, 8, true));
    assert!(!found.extents.is_exactly(&(12..16)));
    let mut stage = found.stage;
    assert_eq!(stage.read(0, 3).await.unwrap(), &b"new"[..]);
    assert_eq!(stage.read(12, 4).await.unwrap(), &b"c-ef"[..]);
    // All has arrived: its room is given back, and the last request is still known.
    stage.rebase(16, 16..16, (None, None)).await.unwrap();
    std::mem::forget(stage);
    let found = Stage::find(place.clone(), 7).await.unwrap().unwrap();
    assert_eq!((found.committed, found.size, found.request), (16, 16, 8));
    assert!(found.extents.is_empty());
    let mut stage = found.stage;
    stage.write(16, 17, Bytes::from_static(b"!"), 10).await.unwrap();
    std::mem::forget(stage);
    let found = Stage::find(place, 7).await.unwrap().unwrap();
    assert!(found.extents.is_exactly(&(16..17)));
    assert_eq!(found.stage.read(16, 1).await.unwrap(), &b"!"[..]);
    found.stage.discard().await;
}

#[tokio::test]
async fn another_process_finds_times_that_were_set() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), 1 << 20);
    let mut stage = Stage::new(place.clone(), 7, 0).await.unwrap();
    stage.write(0, 3, Bytes::from_static(b"abc"), 2).await.unwrap();
    stage.set_times((Some(Millis(5)), None)).await.unwrap();
    stage.set_times((Some(Millis(5)), Some(Millis(6)))).await.unwrap();
    std::mem::forget(stage);
    let found = Stage::find(place.clone(), 7).await.unwrap().unwrap();
    assert_eq!((found.times, found.request, found.size), ((Some(Millis(5)), Some(Millis(6))), 2, 3));
    // What is written afterwards has a time of its own.
    let mut stage = found.stage;
    stage.write(3, 4, Bytes::from_static(b"d"), 8).await.unwrap();
    std::mem::forget(stage);
    let found = Stage::find(place, 7).await.unwrap().unwrap();
    assert_eq!((found.times, found.request, found.size), ((None, Some(Millis(6))), 8, 4));
    assert_eq!(found.stage.read(0, 4).await.unwrap(), &b"abcd"[..]);
    found.stage.discard().await;
}

#[tokio::test]
async fn another_process_finds_what_was_staged() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path(), 1 << 20);
    assert!(Stage::find(place.clone(), 7).await.unwrap().is_none());
    let mut stage = Stage::new(place.clone(), 7, 10).await.unwrap();
    for (start, text, request) in [(10, "abc", 2), (13, "de", 4), (20, "xyz", 6), (23, "!", 8)] {
        stage.hold(text.len() as u64).unwrap();
        stage.write(start, start + text.len() as u64, Bytes::from(text), request).await.unwrap();
    }
    // It dies: nothing is taken away.
    std::mem::forget(stage);
    let found = Stage::find(place.clone(), 7).await.unwrap().unwrap();
    assert_eq!((found.committed, found.kept, found.size, found.request), (10, 10, 24, 8));
    assert_eq!(found.replacing, None);
    found.stage.replacing(Some(77)).await.unwrap();
    assert_eq!(found.extents.pieces(8..26).len(), 5);
    assert_eq!(found.stage.read(8, 18).await.unwrap(), &b"\0\0abcde\0\0\0\0\0xyz!\0\0"[..]);
    let mut stage = found.stage;
    stage.set_length(12).await.unwrap();
    stage.write(14, 15, Bytes::from_static(b"z"), 10).await.unwrap();
    std::mem::forget(stage);
    let found = Stage::find(place.clone(), 7).await.unwrap().unwrap();
    assert_eq!((found.kept, found.size, found.replacing), (10, 15, Some(77)));
    found.stage.replacing(None).await.unwrap();
    let found = Stage::find(place.clone(), 7).await.unwrap().unwrap();
    assert_eq!(found.replacing, None);
    assert_eq!(found.stage.read(10, 6).await.unwrap(), &b"ab\0\0z\0"[..]);
    found.stage.discard().await;
    assert!(Stage::find(place, 7).await.unwrap().is_none());
}
