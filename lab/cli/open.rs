//! `lab report open`: the page of a run in the browser of the user.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use clap::Args;
use lab_model::{ExitCode, files::replace_file};
use lab_report::{HTML, RECORDING, Recording, Report, Signatures};

use super::{Failed, places::RunRoot, print_line};

/// How long a program may take to say that it cannot show the page. After that, it is the browser itself.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
/// In a command of `$BROWSER`, the page.
const PAGE: &str = "%s";

/// Open the HTML page of a recorded run in the browser.
///
/// Writes the page if it is missing or older than the recording, and prints its path. The commands in $BROWSER come
/// first, then xdg-open (open on macOS).
#[derive(Args)]
pub struct Open {
    /// Directory of a run, the beginning of its name, or a recording [default: the newest run]
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    #[command(flatten)]
    run_root: RunRoot,
}

impl Open {
    /// The newest run of the usual directory.
    pub(super) fn newest() -> Self {
        Self { run: None, run_root: RunRoot::default() }
    }

    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let recording = self.run_root.recording(self.run.as_deref())?;
        let page = page_of(&recording)?;
        print_line(page.display());
        let commands = commands(std::env::var("BROWSER").ok().as_deref(), opener(), &page);
        shown_by(&commands, &page)?;
        Ok(ExitCode::Passed)
    }
}

/// The page of a run, written from its recording if it is missing or older. An absolute path, so that no program takes it
/// for an option.
fn page_of(recording: &Recording) -> Result<PathBuf, Failed> {
    let Some(directory) = &recording.directory else {
        let why = format!(
            "the page is written beside a recording that is called {RECORDING}; `lab report show RUN --html FILE` \
             writes it anywhere"
        );
        return Err(Failed::new(ExitCode::BadInput, why));
    };
    let failed =
        |error: io::Error| Failed::new(ExitCode::BadInput, format!("write {}: {error}", directory.display()));
    let directory = fs::canonicalize(directory).map_err(failed)?;
    let page = directory.join(HTML);
    if !is_newer(&page, &directory.join(RECORDING)) {
        let signatures =
            Signatures::with_files(&[]).map_err(|error| Failed::new(ExitCode::BadInput, error))?;
        let text = Report::of(recording, &signatures).html();
        replace_file(&page, text.as_bytes()).map_err(failed)?;
    }
    Ok(page)
}

/// Whether a file was written after another.
fn is_newer(file: &Path, other: &Path) -> bool {
    let written = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    matches!((written(file), written(other)), (Ok(file), Ok(other)) if file >= other)
}

/// The program of the system that opens a file in the program of the user.
fn opener() -> &'static str {
    if cfg!(target_os = "macos") { "open" } else { "xdg-open" }
}

/// The commands to try, each as a program and its arguments. `$BROWSER` is a list with colons between the commands; the
/// page takes the place of `%s` in a command, or follows it. No shell reads them.
fn commands(browser: Option<&str>, opener: &str, page: &Path) -> Vec<(String, Vec<PathBuf>)> {
    let listed = browser.unwrap_or_default().split(':').chain([opener]);
    listed
        .filter_map(|command| {
            let mut words = command.split_whitespace();
            let program = words.next()?.to_owned();
            let mut arguments: Vec<_> =
                words.map(|word| if word == PAGE { page.to_owned() } else { word.into() }).collect();
            if !command.split_whitespace().any(|word| word == PAGE) {
                arguments.push(page.to_owned());
            }
            Some((program, arguments))
        })
        .collect()
}

/// Shows the page by the first command that can.
fn shown_by(commands: &[(String, Vec<PathBuf>)], page: &Path) -> Result<(), Failed> {
    let mut tried = Vec::new();
    for (program, arguments) in commands {
        match started(program, arguments).and_then(|child| refused(child, PATIENCE)) {
            Ok(None) => return Ok(()),
            Ok(Some(why)) => tried.push(format!("{program}: {why}")),
            Err(error) => tried.push(format!("{program}: {error}")),
        }
    }
    let why = format!(
        "no browser could be started ({}); open {} yourself, or name your browser in $BROWSER",
        tried.join("; "),
        page.display()
    );
    Err(Failed::new(ExitCode::HostUnable, why))
}

/// Starts a program that neither reads the terminal nor writes to it, nor ends with what the terminal ends.
fn started(program: &str, arguments: &[PathBuf]) -> io::Result<Child> {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Why a program did not show the page; `None` if it ended well, or if it still runs, as a browser does.
fn refused(mut child: Child, patience: Duration) -> io::Result<Option<String>> {
    let limit = Instant::now() + patience;
    while Instant::now() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok((!status.success()).then(|| status.to_string()));
        }
        sleep(PAUSE);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(browser: Option<&str>) -> Vec<String> {
        let commands = commands(browser, "xdg-open", Path::new("/a b/report.html"));
        let line = |(program, arguments): (String, Vec<PathBuf>)| {
            let words = arguments.iter().map(|word| format!("[{}]", word.display()));
            [program].into_iter().chain(words).collect::<Vec<_>>().join(" ")
        };
        commands.into_iter().map(line).collect()
    }

    #[test]
    fn the_page_is_one_argument_of_each_command() {
        let page = "[/a b/report.html]";
        assert_eq!(told(None), [format!("xdg-open {page}")]);
        assert_eq!(told(Some("")), [format!("xdg-open {page}")]);
        assert_eq!(
            told(Some("firefox --new-window:w3m %s -x::$(reboot)")),
            [
                format!("firefox [--new-window] {page}"),
                format!("w3m {page} [-x]"),
                format!("$(reboot) {page}"),
                format!("xdg-open {page}"),
            ]
        );
    }

    #[test]
    fn a_program_that_fails_is_told_from_one_that_runs() {
        let run = |script: &str| started("sh", &["-c".into(), script.into()]).expect("a shell");
        let after = |script: &str| refused(run(script), Duration::from_secs(60)).expect("waited");
        assert_eq!(after("exit 0"), None);
        assert_eq!(after("exit 3").as_deref(), Some("exit status: 3"));
        let mut running = run("exec sleep 60");
        let id = running.id();
        assert!(running.try_wait().expect("asked").is_none());
        assert_eq!(refused(running, Duration::from_millis(50)).expect("waited"), None);
        let ended = Command::new("kill").arg(id.to_string()).status().expect("kill");
        assert!(ended.success(), "it was ended");
    }
}
