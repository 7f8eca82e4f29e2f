//! Prints the imports between crates and folders: `imports [--mermaid|--files]`.

use std::{path::Path, process::ExitCode};

use lab_imports::{ReadError, Sources, Workspace, files, mermaid, text, violations};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let draw = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => text,
        ["--mermaid"] => mermaid,
        ["--files"] => files,
        _ => {
            eprintln!("usage: imports [--mermaid|--files], in the root of the project");
            return ExitCode::from(2);
        }
    };
    let read = || -> Result<Workspace, ReadError> { Workspace::of(&Sources::below(Path::new("."))?) };
    match read() {
        Ok(workspace) => {
            print!("{}", draw(&workspace));
            let found = violations(&workspace);
            found.iter().for_each(|violation| eprintln!("{violation}"));
            if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
