//! The command line: what each subcommand takes, and what it does with the library.

mod up;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Boots clusters of Talos-layout ARM64 images in QEMU and says, with a cause, whether they form.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Form a cluster and keep it until Ctrl-C
    Up(up::Up),
    /// Node and workload images
    #[command(subcommand)]
    Images(Images),
}

#[derive(Subcommand)]
enum Images {
    /// Build whatever is not up to date
    Build {
        /// Where the images go
        #[arg(long, default_value = "target/images")]
        out: PathBuf,
    },
}

impl Arguments {
    /// Does what was asked for.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Images(Images::Build { out }) => build_images(out),
            Command::Up(up) => up.run(),
        }
    }
}

fn build_images(out: PathBuf) -> ExitCode {
    let options = lab::recipe::BuildOptions { sources: PathBuf::from("images"), output: out };
    match lab::recipe::build(&options, |line| println!("{line}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
