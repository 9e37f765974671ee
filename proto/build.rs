//! Compiles the `.proto` files with protox, so that nobody installs `protoc`, and writes down which fields Hadoop's
//! messages require: prost does not look.

use std::fmt::Write as _;

use protox::prost_reflect::{Cardinality, DescriptorPool, Kind, MessageDescriptor};

const OURS: [&str; 8] = [
    "steadfs/common.proto",
    "steadfs/attributes.proto",
    "steadfs/mounts.proto",
    "steadfs/namespace.proto",
    "steadfs/nodes.proto",
    "steadfs/datanode.proto",
    "steadfs/datanode_admin.proto",
    "steadfs/upkeep.proto",
];
const HADOOP: [&str; 14] = [
    "hadoop/acl.proto",
    "hadoop/admin.proto",
    "hadoop/client_datanode.proto",
    "hadoop/client_namenode.proto",
    "hadoop/client_namenode_admin.proto",
    "hadoop/client_namenode_later.proto",
    "hadoop/client_namenode_more.proto",
    "hadoop/datatransfer.proto",
    "hadoop/ha.proto",
    "hadoop/hdfs.proto",
    "hadoop/inotify.proto",
    "hadoop/inotify_events.proto",
    "hadoop/rpc.proto",
    "hadoop/user_mappings.proto",
];

/// What kubelets ask of a driver of volumes.
const CSI: &str = "csi/csi.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let ours = protox::compile(OURS, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(ours)?;
    tonic_prost_build::configure().compile_fds(protox::compile([CSI], ["proto"])?)?;

    let hadoop = protox::compile(HADOOP, ["proto"])?;
    let pool = DescriptorPool::from_file_descriptor_set(hadoop.clone())?;
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(format!("{out}/hadoop_shapes.rs"), shapes(&pool)?)?;
    prost_build::Config::new().bytes(["."]).enable_type_names().compile_fds(hadoop)?;
    Ok(())
}

/// A table with one row a message: its name, its required fields as a bit set, and the fields worth a look inside.
fn shapes(pool: &DescriptorPool) -> Result<String, std::fmt::Error> {
    let messages: Vec<MessageDescriptor> = pool.all_messages().collect();
    let index = |message: &MessageDescriptor| {
        messages.iter().position(|other| other == message).expect("a field's message is in the pool")
    };
    let mut out = format!("static SHAPES: [Shape; {}] = [\n", messages.len());
    for message in &messages {
        let mut required = 0_u64;
        let mut fields = String::new();
        for field in message.fields() {
            assert!(field.number() < 64, "{}: the bit set holds numbers below 64", field.full_name());
            if field.cardinality() == Cardinality::Required {
                required |= 1 << field.number();
            }
            let inner = match field.kind() {
                Kind::Message(inner) => Some(index(&inner)),
                _ => None,
            };
            if inner.is_some() || field.cardinality() == Cardinality::Required {
                write!(
                    fields,
                    "Field {{ number: {}, name: {:?}, message: {inner:?} }}, ",
                    field.number(),
                    field.name()
                )?;
            }
        }
        let name = message.full_name().trim_start_matches("hadoop.").to_owned();
        writeln!(out, "    Shape {{ name: {name:?}, required: {required:#x}, fields: &[{fields}] }},")?;
    }
    out.push_str("];\n");
    Ok(out)
}
