//! Conversions between our messages and the shared vocabulary. They check what came from outside and name the field
//! that is wrong; nothing past a door sees a generated type.

mod fields;
mod status;

pub use fields::{
    call_key, datanode_uuid, datanode_uuids, file_inode, path, principal, required, storage_id, storage_ids, to_call_key,
};
pub use status::{code_of, from_status, to_status, MAX_DETAIL_BYTES};
