//! Messages and clients, generated from the files in `proto/`.
#![allow(missing_docs, clippy::all, reason = "generated from the files in proto/")]

pub mod common {
    tonic::include_proto!("common");
}

pub mod machine {
    tonic::include_proto!("machine");
}

pub mod resource {
    tonic::include_proto!("cosi.resource");
}

pub mod time {
    tonic::include_proto!("time");
}
