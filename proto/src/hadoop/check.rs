//! Looks over a message's bytes before prost makes a value of them.

use bytes::Bytes;
use prost::{Message, Name};
use steadfs_common::{FsError, FsErrorKind, FsResult};

include!(concat!(env!("OUT_DIR"), "/hadoop_shapes.rs"));

/// Most fields in one message, those of inner messages included. Decoded, a field may take a hundred times its bytes on
/// the wire; the largest message that clients send (a report of bad blocks) has some thousands.
pub const MAX_FIELDS: usize = 1 << 18;

/// What a message must have.
struct Shape {
    name: &'static str,
    /// Bit `n` is set if field `n` is required.
    required: u64,
    /// The required fields and those that hold messages, by number.
    fields: &'static [Field],
}

struct Field {
    number: u32,
    name: &'static str,
    /// The inner message's place in the table.
    message: Option<usize>,
}

/// Reads a message whose every required field must be there.
///
/// # Errors
/// [`FsErrorKind::InvalidRequest`], naming the message and the field.
pub fn decode<M: Message + Name + Default>(bytes: Bytes) -> FsResult<M> {
    let shape = const { find(M::NAME) };
    let mut budget = MAX_FIELDS;
    check(shape, &bytes, &mut budget)?;
    M::decode(bytes).map_err(|error| invalid(shape, &error.to_string()))
}

/// The row of the message called `name`; a message that is not in the table does not compile.
const fn find(name: &str) -> &'static Shape {
    let mut at = 0;
    while at < SHAPES.len() {
        if same(SHAPES[at].name.as_bytes(), name.as_bytes()) {
            return &SHAPES[at];
        }
        at += 1;
    }
    panic!("not a top-level message of Hadoop")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

fn invalid(shape: &Shape, what: &str) -> FsError {
    FsError::new(FsErrorKind::InvalidRequest, format!("Cannot read {}: {what}", shape.name))
}

/// Walks the fields of a message. The messages of Hadoop do not hold themselves, so the depth is that of the table.
fn check(shape: &Shape, mut bytes: &[u8], budget: &mut usize) -> FsResult<()> {
    let mut seen = 0_u64;
    while !bytes.is_empty() {
        *budget = budget.checked_sub(1).ok_or_else(|| invalid(shape, "more fields than any call needs"))?;
        let key =
            varint(&mut bytes).ok_or_else(|| invalid(shape, "a field's number is cut off or too long"))?;
        let number = u32::try_from(key >> 3).map_err(|_| invalid(shape, "a field's number is too large"))?;
        let value =
            skip(key & 7, &mut bytes).ok_or_else(|| invalid(shape, &format!("field {number} is cut off")))?;
        if number < u64::BITS {
            seen |= 1 << number;
        }
        let inner = shape.fields.iter().find(|field| field.number == number).and_then(|field| field.message);
        if let (Some(inner), Some(value)) = (inner, value) {
            check(&SHAPES[inner], value, budget)?;
        }
    }
    let missing = shape.required & !seen;
    if missing == 0 {
        return Ok(());
    }
    let number = missing.trailing_zeros();
    let name = shape.fields.iter().find(|field| field.number == number).map_or("?", |field| field.name);
    Err(invalid(shape, &format!("`{name}` is missing")))
}

/// Steps over a field's value; the bytes of a length-delimited one come back.
fn skip<'b>(wire_type: u64, bytes: &mut &'b [u8]) -> Option<Option<&'b [u8]>> {
    let fixed = match wire_type {
        0 => {
            varint(bytes)?;
            return Some(None);
        }
        1 => 8,
        2 => usize::try_from(varint(bytes)?).ok()?,
        5 => 4,
        // Groups went out of use before Hadoop had protobuf.
        _ => return None,
    };
    let (value, rest) = bytes.split_at_checked(fixed)?;
    *bytes = rest;
    Some((wire_type == 2).then_some(value))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hadoop::{
        AddBlockRequestProto, CompleteRequestProto, DeleteRequestProto, ExtendedBlockProto,
        GetFileInfoRequestProto, GetServerDefaultsRequestProto,
    };

    fn problem<M: Message + Name + Default + std::fmt::Debug>(bytes: &'static [u8]) -> String {
        let error = decode::<M>(Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(error.kind(), FsErrorKind::InvalidRequest);
        error.message().to_owned()
    }

    #[test]
    fn a_whole_message_is_read() {
        let request = CompleteRequestProto {
            src: "/a".into(),
            client_name: "c".into(),
            last: Some(ExtendedBlockProto {
                pool_id: "p".into(),
                block_id: 1,
                generation_stamp: 2,
                num_bytes: None,
            }),
            file_id: None,
        };
        assert_eq!(decode::<CompleteRequestProto>(request.encode_to_vec().into()).unwrap(), request);
        decode::<GetServerDefaultsRequestProto>(Bytes::new()).unwrap();
        // A field of the future is passed over.
        decode::<GetServerDefaultsRequestProto>(Bytes::from_static(b"\xf8\x07\x01\x0a\x01x")).unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            problem::<GetFileInfoRequestProto>(b""),
            "Cannot read GetFileInfoRequestProto: `src` is missing"
        );
        assert_eq!(
            problem::<DeleteRequestProto>(b"\x0a\x01/"),
            "Cannot read DeleteRequestProto: `recursive` is missing"
        );
        assert_eq!(
            problem::<CompleteRequestProto>(b"\x0a\x01/\x12\x01c\x1a\x02\x10\x01"),
            "Cannot read ExtendedBlockProto: `poolId` is missing"
        );
    }

    #[test]
    fn what_is_broken_is_refused() {
        assert!(problem::<GetFileInfoRequestProto>(b"\x0a\x05/").contains("field 1 is cut off"));
        assert!(
            problem::<GetFileInfoRequestProto>(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
                .contains("too long")
        );
        assert!(problem::<GetFileInfoRequestProto>(b"\x0a\x01\xff").contains("GetFileInfoRequestProto"));
        assert!(problem::<GetFileInfoRequestProto>(b"\x0b\x0c").contains("field 1"));
        let many = Bytes::from(b"\x32\x00".repeat(MAX_FIELDS + 1));
        let error = decode::<AddBlockRequestProto>(many).unwrap_err();
        assert!(error.message().contains("more fields"), "{error}");
    }

    fn add_block() -> Vec<u8> {
        let block = |id| ExtendedBlockProto {
            pool_id: "BP-1".into(),
            block_id: id,
            generation_stamp: 1_001,
            num_bytes: Some(u64::MAX),
        };
        let request = AddBlockRequestProto {
            src: "/a/b".into(),
            client_name: "DFSClient_1".into(),
            previous: Some(block(1_073_741_825)),
            exclude_nodes: vec![crate::hadoop::DatanodeInfoProto::default(); 3],
            file_id: Some(16_386),
            favored_nodes: vec!["h:1".into()],
            flags: vec![1, 2],
        };
        request.encode_to_vec()
    }

    proptest! {
        /// Whatever the bytes, there is an answer; and what is let through is what prost reads by itself.
        #[test]
        fn no_bytes_are_too_strange(
            cut in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            byte: u8,
            tail in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = add_block();
            let place = at.index(bytes.len());
            bytes[place] = byte;
            bytes.truncate(cut.index(bytes.len() + 1));
            bytes.extend(tail);
            let bytes = Bytes::from(bytes);
            if let Ok(request) = decode::<AddBlockRequestProto>(bytes.clone()) {
                prop_assert_eq!(request, AddBlockRequestProto::decode(bytes).unwrap());
            }
        }
    }
}
