//! The `lab` command.

// A closed pipe must not be a panic: `cli::output` prints.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;

fn main() -> std::process::ExitCode {
    // Before any thread starts. Runs leave secrets in files and directories, and some are written by children.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    cli::print_panics();
    cli::Arguments::of_process().run()
}
