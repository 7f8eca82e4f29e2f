//! The container images of the lab's own workloads. They are built with the node images, served by the
//! lab's registry and started by checks.

/// The image of the echo server; the lab's registry serves it.
pub const ECHO_IMAGE: &str = "lab.local/echo:v1";

/// The image of the WebAssembly module that answers like the echo server; the lab's registry
/// serves it.
pub const WASM_IMAGE: &str = "lab.local/wasm-answer:v1";
