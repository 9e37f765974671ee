//! Compiles the `.proto` files with protox, so that nobody installs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let ours = protox::compile(
        ["steadfs/common.proto", "steadfs/namespace.proto", "steadfs/datanode.proto"],
        ["proto"],
    )?;
    tonic_prost_build::configure().bytes(".").compile_fds(ours)?;
    Ok(())
}
