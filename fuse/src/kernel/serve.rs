//! Reading requests.

use std::io;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use parking_lot::Mutex;

use super::reply::Reply;
use super::request::{Operation, Request, parse};
use crate::device::Device;

/// Bytes of one read or write.
pub(crate) const MAX_IO: u32 = 1 << 20;
/// Room for one request: what a program writes, and what is said about it.
const BUFFER: usize = MAX_IO as usize + 4_096;

/// A request of as many bytes is handed on in the buffer it was read into, and not copied. Smaller ones are copied: while they
/// are under way they would keep a buffer that is mostly empty, and that nobody has counted.
const HANDED_ON: usize = BUFFER / 2;
/// Buffers kept for later, at most: more are under way only while programs write faster than the cluster takes it.
const KEPT: usize = 8;

/// How the threads that read requests are called, but for their number.
pub(crate) const READERS: &str = "mount-reader-";

/// Who carries requests out. Called by the threads that read them, which take no other request meanwhile.
pub(crate) trait Handler: Sync + Send + 'static {
    fn handle(&self, request: Request, reply: Reply);
}

/// Buffers to read requests into. All their memory is touched: a process that is killed while the kernel has yet to find pages
/// for a request takes that request with it, and its program is told EIO.
#[derive(Default)]
struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    fn take(self: &Arc<Self>) -> Buffer {
        let kept = self.free.lock().pop();
        Buffer { bytes: kept.unwrap_or_else(|| vec![1; BUFFER]), home: self.clone() }
    }
}

/// One of them; it goes back when it is dropped.
struct Buffer {
    bytes: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.free.lock();
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// Reads requests with this many threads until the file system is unmounted.
///
/// # Errors
/// The device cannot be read, or gives what is no request.
pub(crate) fn serve(device: &Device, handler: &Arc<impl Handler>, threads: usize) -> io::Result<()> {
    let buffers = Arc::<Buffers>::default();
    let readers = (0..threads).map(|number| {
        let (device, handler, buffers) = (device.clone(), handler.clone(), buffers.clone());
        let reader = move || read(&device, &*handler, &buffers);
        thread::Builder::new().name(format!("{READERS}{number}")).spawn(reader)
    });
    let readers: Vec<_> = readers.collect::<io::Result<_>>()?;
    let mut ended = Ok(());
    for reader in readers {
        let done = reader.join().map_err(|_| io::Error::other("a thread that reads requests panicked"))?;
        ended = ended.and(done);
    }
    ended
}

fn read(device: &Device, handler: &impl Handler, buffers: &Arc<Buffers>) -> io::Result<()> {
    let mut buffer = buffers.take();
    loop {
        match device.read(&mut buffer.bytes) {
            Ok(()) => {}
            // A request was taken back while it was read.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
            Err(rustix::io::Errno::NODEV) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let bytes = if buffer.bytes.len() >= HANDED_ON {
            Bytes::from_owner(std::mem::replace(&mut buffer, buffers.take()))
        } else {
            Bytes::copy_from_slice(&buffer.bytes)
        };
        let Some(request) = parse(&bytes) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel sent what is no request"));
        };
        match &request.operation {
            Operation::Forget => {}
            Operation::Destroy => {
                Reply::new(device.clone(), request.number).ok();
                return Ok(());
            }
            _ => {
                let reply = Reply::new(device.clone(), request.number);
                handler.handle(request, reply);
            }
        }
    }
}
