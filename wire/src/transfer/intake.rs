//! Room for packets that are read from a socket.

use bytes::BytesMut;

use super::{Packet, room};

/// Bytes read into one buffer, about.
const BUFFER_BYTES: usize = 512 << 10;
/// While nothing is known of the packets, a buffer with less room than this is replaced rather than filled up.
const MIN_ROOM: usize = 64 << 10;

/// How much room to make for packets.
///
/// Those of one stream are all as long as each other, but for the last. Once that length is known, buffers are made to end
/// where a packet does: then no packet lies in two of them, and none is copied from one to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketRoom {
    /// Bytes of the last packet, 0 before the first.
    frame: usize,
}

impl PacketRoom {
    /// A packet came. One without data says nothing of the others.
    pub fn came(&mut self, packet: &Packet) {
        if packet.header().data_len > 0 {
            self.frame = packet.frame().len();
        }
    }

    /// Makes sure that `buffer` has room to read into. Grows with what has come, never with what a length claims.
    pub fn make(&self, buffer: &mut BytesMut) {
        let (length, spare) = (buffer.len(), buffer.capacity() - buffer.len());
        if self.frame == 0 {
            if spare < MIN_ROOM {
                buffer.reserve(BUFFER_BYTES.max(room(length)));
            }
        } else if spare == 0 {
            let wanted = BUFFER_BYTES.max(2 * length).next_multiple_of(self.frame);
            buffer.reserve(wanted - length);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, BufMut};

    use super::*;

    #[test]
    fn packets_lie_in_one_buffer_once_their_length_is_known() {
        let (mut room, mut buffer) = (PacketRoom::default(), BytesMut::new());
        let frame = 132_127;
        let (mut held, mut cut, mut sent) = (Vec::new(), 0, 0_usize);
        for _ in 0..1_000 {
            room.make(&mut buffer);
            let spare = buffer.capacity() - buffer.len();
            assert!(spare > 0);
            let came = spare.min(70_001);
            buffer.put_bytes(7, came);
            sent += came;
            while buffer.len() >= frame {
                held.push(buffer.split_to(frame).freeze());
                room.frame = frame;
            }
            if buffer.capacity() == buffer.len() && !buffer.is_empty() {
                cut += 1;
            }
            held.drain(..held.len().saturating_sub(20));
        }
        assert!(sent > 60_000_000 && cut <= 1, "{cut} packets were cut");
    }

    #[test]
    fn a_packet_longer_than_those_before_has_room_too() {
        let (mut room, mut buffer) = (PacketRoom::default(), BytesMut::new());
        room.frame = 600;
        let mut rounds = 0;
        while buffer.len() < 16 << 20 {
            room.make(&mut buffer);
            let spare = buffer.capacity() - buffer.len();
            assert!(buffer.capacity() <= 3 * buffer.len().max(BUFFER_BYTES));
            buffer.put_bytes(1, spare);
            rounds += 1;
        }
        assert!(rounds < 20);
        buffer.advance(buffer.len());
        room.make(&mut buffer);
        assert!(buffer.capacity() > 0);
    }
}
