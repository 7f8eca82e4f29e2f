//! Builds the images without the rest of the lab: `make` compiles the rest at the same time.

use std::{error::Error, process::ExitCode};

use lab_recipe::{BuildOptions, build};

/// The arguments are variants of the node image; without arguments, it builds all.
fn main() -> ExitCode {
    let options = BuildOptions {
        sources: "images".into(),
        output: "target/images".into(),
        variants: std::env::args().skip(1).collect(),
    };
    let Err(error) = build(&options, |line| println!("{line}")) else {
        return ExitCode::SUCCESS;
    };
    eprint!("lab-images: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        eprint!(": {error}");
        source = error.source();
    }
    eprintln!();
    ExitCode::FAILURE
}
