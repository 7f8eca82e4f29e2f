//! Compiles the protobuf definitions of the machine API. The compiler is `protox`, which is written in Rust,
//! so the host needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = "machine_api/proto";
    println!("cargo::rerun-if-changed={directory}");
    let files = ["machine.proto", "resource.proto", "time.proto"].map(|name| format!("{directory}/{name}"));
    let descriptors = protox::compile(files, [directory])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
