//! The generated messages and clients of `proto/`.
#![allow(missing_docs, clippy::all, reason = "generated from the files in proto/")]

/// `common.proto`.
pub mod common {
    tonic::include_proto!("common");
}

/// `machine.proto`.
pub mod machine {
    tonic::include_proto!("machine");
}

/// `resource.proto`.
pub mod resource {
    tonic::include_proto!("cosi.resource");
}

/// `time.proto`.
pub mod time {
    tonic::include_proto!("time");
}
