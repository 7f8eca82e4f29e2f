//! What ends a command: an error with its exit code, or the user.

use std::process::ExitCode as Status;

use lab::session::{ImageFiguresError, Session, SessionError, StartError};
use lab_model::{
    ExitCode, InvalidFile,
    files::{comes_from_exhaustion, is_exhausted},
    words::chain,
};
use lab_oci::registry::RegistryError;
use lab_plan::cluster::PlanError;

use super::{output_error, say, tell, tell_as_is};

/// An error of a command with the exit code it leads to.
pub(super) struct Failed {
    pub(super) code: ExitCode,
    pub(super) message: String,
    /// Whether the message has the lab's own colours, and all foreign text in it is visible already.
    rendered: bool,
}

impl Failed {
    pub(super) fn new(code: ExitCode, error: impl std::fmt::Display) -> Self {
        Self { code, message: error.to_string(), rendered: false }
    }

    /// An error whose report may have colours. Its foreign text is visible.
    pub(super) fn rendered(code: ExitCode, report: String) -> Self {
        Self { code, message: report, rendered: true }
    }
}

impl From<InvalidFile> for Failed {
    fn from(error: InvalidFile) -> Self {
        Self::rendered(ExitCode::BadInput, format!("{:?}", miette::Report::new(error)))
    }
}

impl From<SessionError> for Failed {
    fn from(error: SessionError) -> Self {
        let code = match error {
            _ if comes_from_exhaustion(&error) => ExitCode::HostUnable,
            SessionError::Qemu(_) | SessionError::Accelerator(_) | SessionError::Memory(_) => {
                ExitCode::HostUnable
            }
            SessionError::Directory(_) | SessionError::Host { .. } => ExitCode::Internal,
            SessionError::Signatures(_) => ExitCode::BadInput,
        };
        Self::new(code, error)
    }
}

impl From<ImageFiguresError> for Failed {
    fn from(error: ImageFiguresError) -> Self {
        match error {
            ImageFiguresError::Start(error) => error.into(),
            other => Self::new(ExitCode::VerdictFailed, other),
        }
    }
}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Self {
        if comes_from_exhaustion(&error) {
            return Self::new(ExitCode::HostUnable, format!("{}{}", chain(&error), advice(&error)));
        }
        match error {
            StartError::Session(error) => error.into(),
            StartError::Source(error) => error.into(),
            StartError::Memory { .. } | StartError::Registry(RegistryError::FixedPort { .. }) => {
                Self::new(ExitCode::HostUnable, error)
            }
            StartError::Plan(PlanError::Secrets(_))
            | StartError::Registry(_)
            | StartError::ImageDisk(_)
            | StartError::TailnetPrograms(_)
            | StartError::Tailnet(_) => Self::new(ExitCode::Internal, error),
            StartError::Plan(_)
            | StartError::Asset(_)
            | StartError::Store(_)
            | StartError::MissingImages(_)
            | StartError::Snapshot { .. }
            | StartError::Config(_)
            | StartError::TailnetSpec(_) => Self::new(ExitCode::BadInput, error),
            StartError::Formation(_) => Self::new(ExitCode::VerdictFailed, error),
        }
    }
}

/// What to do when the system lets this process open no more files, to follow the error; else nothing.
pub(super) fn advice(error: &(dyn std::error::Error + 'static)) -> &'static str {
    use nix::libc::{EMFILE, ENFILE};
    let code = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error)
    };
    let mut codes = std::iter::successors(Some(error), |error| error.source()).filter_map(code);
    match codes.any(|code| [EMFILE, ENFILE].contains(&code)) {
        true => "; raise the limit of open files (ulimit -n), the lab needs some hundred",
        false => "",
    }
}

/// Prints panics like errors: their text can be a guest's or an image's.
pub fn print_panics() {
    std::panic::set_hook(Box::new(|panic| tell!("error: {panic}")));
}

/// Does `work`. A panic in it, as of a library that reads images, is an error of the lab.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let why = "this command has a fault, which the line above names; please report it with what it read";
        Err(Failed::new(ExitCode::Internal, why))
    })
}

/// The exit status of this process.
pub(super) fn ended(done: Result<u8, Failed>) -> Status {
    let code = done.unwrap_or_else(|failed| {
        let text = format!("error: {}", failed.message);
        if failed.rendered {
            tell_as_is(&text)
        } else {
            tell!("{text}")
        }
        failed.code.code()
    });
    match output_error() {
        Some(error) if code == 0 => {
            tell!("error: write to standard output: {error}");
            Status::from(ExitCode::HostUnable.code())
        }
        _ => Status::from(code),
    }
}

fn not_started(error: &std::io::Error) -> Failed {
    let code = if is_exhausted(error) { ExitCode::HostUnable } else { ExitCode::Internal };
    Failed::new(code, format!("start this command: {error}; is the limit of open files too low (ulimit -n)?"))
}

pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Runtime::new().map_err(|error| not_started(&error))?.block_on(work)
}

/// Resolves when the user ends the lab with Ctrl-C or a termination signal.
pub(super) async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signals = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        signals.extend(signal(kind));
    }
    if signals.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
}

/// Does `work` until the user ends the lab. If the run is paused at a failure, the request to end resumes it, and the run ends
/// with the result of that failure.
pub(super) async fn unless_ended<T>(session: &Session, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        result = &mut work => return Some(result),
        paused = session.paused() => say!("{paused}"),
        () = asked_to_end() => return None,
    }
    tokio::select! {
        result = &mut work => return Some(result),
        () = asked_to_end() => session.go_on(),
    }
    Some(work.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_the_lab() {
        let failed = guarded(|| -> Result<(), Failed> { panic!("a fault of a library") }).err();
        assert!(failed.is_some_and(|failed| failed.code == ExitCode::Internal));
        assert!(guarded(|| Ok(())).is_ok());
    }
}
