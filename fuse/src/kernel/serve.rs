//! Reading requests.

use std::io;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;

use super::reply::Reply;
use super::request::{Operation, Request, parse};
use crate::device::Device;

/// Bytes of one read or write.
pub(crate) const MAX_IO: u32 = 1 << 20;
/// Room for one request: what a program writes, and what is said about it.
const BUFFER: usize = MAX_IO as usize + 4_096;

/// How the threads that read requests are called, but for their number.
pub(crate) const READERS: &str = "mount-reader-";

/// Who carries requests out. Called by the threads that read them, which take no other request meanwhile.
pub(crate) trait Handler: Sync + Send + 'static {
    fn handle(&self, request: Request, reply: Reply);
}

/// Reads requests with this many threads until the file system is unmounted.
///
/// # Errors
/// The device cannot be read, or gives what is no request.
pub(crate) fn serve(device: &Device, handler: &Arc<impl Handler>, threads: usize) -> io::Result<()> {
    let readers = (0..threads).map(|number| {
        let (device, handler) = (device.clone(), handler.clone());
        let reader = move || read(&device, &*handler);
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

fn read(device: &Device, handler: &impl Handler) -> io::Result<()> {
    // The same memory for every request, and all of it touched: a process that is killed while the kernel has yet to find
    // pages for a request takes that request with it, and its program is told EIO.
    let mut buffer = vec![1; BUFFER];
    loop {
        buffer.clear();
        match device.read(&mut buffer) {
            Ok(()) => {}
            // A request was taken back while it was read.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
            Err(rustix::io::Errno::NODEV) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let bytes = Bytes::copy_from_slice(&buffer);
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
