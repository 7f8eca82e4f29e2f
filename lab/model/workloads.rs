//! The container images of the lab workloads. The build creates them together with the node images, the lab
//! registry serves them, and checks start them.

/// The echo server image, served by the lab registry.
pub const ECHO_IMAGE: &str = "lab.local/echo:v1";

/// The image of the WebAssembly module, served by the lab registry. The module returns the same answer as
/// the echo server.
pub const WASM_IMAGE: &str = "lab.local/wasm-answer:v1";
