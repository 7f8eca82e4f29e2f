//! The `lab` command.

mod cli;

use clap::Parser;

fn main() -> std::process::ExitCode {
    cli::Arguments::parse().run()
}
