//! What the `lab` command's exit status means.

use std::process::Termination;

/// The exit status of every `lab` command. The numbers are part of the interface: CI jobs and
/// scripts branch on them, so a meaning never moves to another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// Everything that was asked was done, and every verdict is green.
    Passed,
    /// The lab worked; what it tested did not.
    VerdictFailed,
    /// The command line, a scenario file or a patch is wrong; nothing was booted.
    BadInput,
    /// This host cannot run it: a requirement of `lab doctor` is missing, or memory is short.
    HostUnable,
    /// The lab itself failed; says nothing about the images.
    Internal,
    /// Ended by Ctrl-C or a termination signal, after taking its machines down.
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

    /// The number a shell sees.
    pub const fn code(self) -> u8 {
        match self {
            ExitCode::Passed => 0,
            ExitCode::VerdictFailed => 1,
            ExitCode::BadInput => 2,
            ExitCode::HostUnable => 3,
            ExitCode::Internal => 4,
            // 128 + SIGINT, what a shell reports for a program that Ctrl-C ended.
            ExitCode::Interrupted => 130,
        }
    }

    /// The meaning in a few words.
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

    /// A table for `lab --help`, one code a line.
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
