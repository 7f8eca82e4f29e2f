//! The exit codes of the `lab` command.

use std::process::Termination;

/// The exit code of every `lab` command. The codes are part of the interface: CI jobs and scripts depend on
/// them, so the meaning of a code never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// The command completed and every verdict is green.
    Passed,
    /// The lab worked, but a tested condition failed.
    VerdictFailed,
    /// The command line, a scenario file or a patch is invalid. The lab booted no machine.
    BadInput,
    /// The host cannot run the lab: it does not meet a requirement of `lab doctor`, or memory is
    /// insufficient.
    HostUnable,
    /// The lab itself failed. The result is not a verdict on the images.
    Internal,
    /// Ctrl-C or a termination signal ended the command. The lab stopped its machines first.
    Interrupted,
}

impl ExitCode {
    /// All codes, for the help text and the documentation.
    pub const ALL: [ExitCode; 6] = [
        ExitCode::Passed,
        ExitCode::VerdictFailed,
        ExitCode::BadInput,
        ExitCode::HostUnable,
        ExitCode::Internal,
        ExitCode::Interrupted,
    ];

    /// Returns the numeric exit code.
    pub const fn code(self) -> u8 {
        match self {
            ExitCode::Passed => 0,
            ExitCode::VerdictFailed => 1,
            ExitCode::BadInput => 2,
            ExitCode::HostUnable => 3,
            ExitCode::Internal => 4,
            // 128 + SIGINT: the status that a shell reports after Ctrl-C.
            ExitCode::Interrupted => 130,
        }
    }

    /// Returns the exit code with this number.
    pub fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code() == code)
    }

    /// Returns a short description.
    pub const fn meaning(self) -> &'static str {
        match self {
            ExitCode::Passed => "everything passed",
            ExitCode::VerdictFailed => "a check or the formation of a cluster failed",
            ExitCode::BadInput => "bad command line or scenario file; nothing was booted",
            ExitCode::HostUnable => "this host cannot run it (see lab doctor)",
            ExitCode::Internal => "the lab itself failed",
            ExitCode::Interrupted => "interrupted",
        }
    }

    /// Formats a table for `lab --help`, one code per line.
    pub fn table() -> String {
        ExitCode::ALL.iter().map(|c| format!("  {:>3}  {}\n", c.code(), c.meaning())).collect()
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.code().into()
    }
}

impl Termination for ExitCode {
    fn report(self) -> std::process::ExitCode {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_exit_codes_is_stable() {
        insta::assert_snapshot!(ExitCode::table(), @r"
           0  everything passed
           1  a check or the formation of a cluster failed
           2  bad command line or scenario file; nothing was booted
           3  this host cannot run it (see lab doctor)
           4  the lab itself failed
         130  interrupted
        ");
    }
}
