//! The `lab` command.

mod cli;

fn main() -> std::process::ExitCode {
    cli::Arguments::of_process().run()
}
