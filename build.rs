//! Compiles the protocol definitions of the machine API. `protox` is a protobuf compiler in
//! Rust, so no `protoc` is needed on the host.

fn main() {
    println!("cargo::rerun-if-changed=lab/talos/proto");
}
