//! Programs of this host.

use std::process::Command;

use crate::InventoryError;

/// Runs a program to its end, and returns its standard output.
pub fn run(command: &mut Command) -> Result<String, InventoryError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let output =
        command.output().map_err(|source| InventoryError::Start { program: program.clone(), source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = said.lines().collect();
        return Err(InventoryError::Failed {
            command: format!("{program} {}", words.join(" ")),
            status: output.status.to_string(),
            output: lines[lines.len().saturating_sub(10)..].join("\n"),
        });
    }
    String::from_utf8(output.stdout).map_err(|error| InventoryError::format(program, error))
}
