//! The `lab` command.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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

fn main() {
    let arguments = Arguments::parse();
    let Command::Images(Images::Build { out }) = arguments.command;
    let options = lab::recipe::BuildOptions { sources: PathBuf::from("images"), output: out };
    if let Err(error) = lab::recipe::build(&options, |line| println!("{line}")) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
