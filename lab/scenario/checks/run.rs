//! The user's own command or script; its exit code is the verdict.

use std::{
    fmt,
    path::{Path, PathBuf, absolute},
    process::ExitStatus,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use lab_model::{Diagnostic, files::directory_of};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Text, Words, words_of},
};
use lab_vm::process::Ran;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::Spanned;

use super::{CheckError, HostCheck, Observation, host_view::HostView};

/// The time limit of a command without one of its own, on the reference host.
const LIMIT: Duration = Duration::from_secs(120);
/// The lines of output in the report, of the beginning and of the end.
const FIRST_LINES: usize = 10;
const LAST_LINES: usize = 30;
const SHELL: &str = "/bin/sh";

#[derive(Debug, Serialize)]
pub struct Run {
    #[serde(flatten)]
    program: Program,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    arguments: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Duration>,
    /// The directory in which the program starts: that of the scenario.
    #[serde(skip)]
    directory: PathBuf,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Program {
    /// A line for the shell.
    Command(String),
    /// An executable file.
    Script(PathBuf),
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(line) => f.write_str(line.lines().next().unwrap_or_default()),
            Self::Script(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A line for the shell, or a mapping.
pub struct Written(Keys);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    command: Option<Text>,
    script: Option<Text>,
    #[serde(default)]
    arguments: Vec<String>,
    limit: Option<Spanned<f64>>,
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WrittenVisitor;

        impl<'de> Visitor<'de> for WrittenVisitor {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command line, or a mapping with `command` or `script`")
            }

            fn visit_str<E: de::Error>(self, line: &str) -> Result<Written, E> {
                let nowhere = serde_saphyr::Location::UNKNOWN;
                let command = Some(Spanned::new(line.to_owned(), nowhere, nowhere));
                Ok(Written(Keys { command, ..Keys::default() }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
                Keys::deserialize(MapAccessDeserializer::new(map)).map(Written)
            }
        }

        deserializer.deserialize_any(WrittenVisitor)
    }
}

impl CheckKind for Run {
    const NAME: &'static str = "run";
    type Written = Written;

    fn read(Written(written): Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        let program = match (written.command, written.script) {
            (Some(line), None) if line.value.trim().is_empty() => {
                context.report(Diagnostic::at(&line, "the command is empty"));
                return None;
            }
            (Some(line), None) => Program::Command(line.value),
            (None, Some(script)) => {
                let (path, text) = context.file(&script, &script.value, "script")?;
                if !text.starts_with("#!") {
                    let message = format!("the script {path} does not begin with #!");
                    let help = "name its interpreter in the first line, for example #!/usr/bin/env bash";
                    context.report(Diagnostic::at(&script, message).help(help));
                    return None;
                }
                Program::Script(path.into())
            }
            (Some(_), Some(script)) => {
                let problem = Diagnostic::at(&script, "`command` and `script` exclude each other");
                context.report(problem.help("give each an entry of its own"));
                return None;
            }
            (None, None) => {
                let problem = context.at_check("a check `run` names no program");
                context
                    .report(problem.help("write `run: { script: tests/01-nodes.sh }` or `run: kubectl …`"));
                return None;
            }
        };
        let limit = context.limit(written.limit.as_ref())?;
        let directory = context.directory().to_owned();
        Some(Self { program, arguments: written.arguments, limit, directory })
    }

    fn keys() -> std::collections::BTreeSet<&'static str> {
        words_of::<Keys>()
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        Words::new(Words::formed(cluster), format!("{} runs on the host", self.program), "its exit code is 0")
    }

    fn runs_programs(&self) -> bool {
        true
    }
}

impl HostCheck for Run {
    fn judge<'a>(
        &'a self,
        host: &'a HostView,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        self.judge_from(host, seen).boxed()
    }

    fn script(&self) -> Option<PathBuf> {
        match &self.program {
            Program::Script(path) => Some(path.clone()),
            Program::Command(_) => None,
        }
    }
}

impl Run {
    /// A script outside of a scenario.
    pub fn of_script(path: &Path, limit: Option<Duration>) -> Self {
        Self {
            program: Program::Script(path.to_owned()),
            arguments: Vec::new(),
            limit,
            directory: directory_of(path).to_owned(),
        }
    }

    async fn judge_from(&self, host: &HostView, seen: &mut Observation) -> Result<(), CheckError> {
        let limit = host.limit(self.limit, LIMIT);
        let mut command = match &self.program {
            Program::Command(line) => {
                let mut command = host.environment.command(SHELL, &self.directory);
                // With -e, a failed command in the middle is not forgotten.
                command.args(["-ec", line, SHELL]);
                command
            }
            Program::Script(path) => {
                let path = absolute(path).map_err(|error| CheckError::seen(error.to_string()))?;
                host.environment.command(path, &self.directory)
            }
        };
        command.args(&self.arguments);
        let ran = host.processes.run(Self::NAME, command, limit).await;
        note(&self.program, &ran.map_err(|error| self.not_started(&error))?, limit, seen);
        Ok(())
    }

    fn not_started(&self, error: &dyn std::error::Error) -> CheckError {
        let hint = match &self.program {
            Program::Script(path) => format!("; `chmod +x {}` makes it executable", path.display()),
            Program::Command(_) => String::new(),
        };
        CheckError::lacks(format!("{}{hint}", lab_model::words::chain(error)))
    }
}

/// Notes how a program ended, and its output. The recorder makes the output safe to show.
pub(super) fn note(program: &dyn fmt::Display, ran: &Ran, limit: Duration, seen: &mut Observation) {
    let lines = excerpt(&ran.output.lines());
    let after = format!("after {:.1} s", ran.took.as_secs_f64());
    match ran.status {
        Some(status) if status.success() => seen.fact(format!("{program}: exit code 0 {after}")),
        ended => {
            let how = match ended {
                Some(status) => format!("{} {after}", said(status)),
                None => format!("it did not end within {} s and was killed", limit.as_secs()),
            };
            let last: Vec<_> = lines.iter().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
            let last: Vec<_> = last.into_iter().rev().map(String::as_str).collect();
            let last = if last.is_empty() { "it wrote nothing".to_owned() } else { last.join(" / ") };
            seen.problem(format!("{program}: {how}: {last}"));
        }
    }
    lines.iter().for_each(|line| seen.fact(format!("  {line}")));
}

fn said(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
    }
}

fn excerpt(lines: &[String]) -> Vec<String> {
    if lines.len() <= FIRST_LINES + LAST_LINES {
        return lines.to_vec();
    }
    let left_out = lines.len() - FIRST_LINES - LAST_LINES;
    let mut kept = lines[..FIRST_LINES].to_vec();
    kept.push(format!("[{left_out} lines]"));
    kept.extend_from_slice(&lines[lines.len() - LAST_LINES..]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ran(script: &str, limit: Duration) -> Observation {
        let records = tempfile::tempdir().expect("directory");
        let processes = lab_vm::process::Processes::new(records.path()).expect("processes");
        let mut command = std::process::Command::new(SHELL);
        command.args(["-c", script]);
        let ran = processes.run("test", command, limit).await.expect("started");
        let mut seen = Observation::default();
        note(&"the script", &ran, limit, &mut seen);
        seen
    }

    #[tokio::test]
    async fn the_exit_code_is_the_verdict_and_the_output_is_evidence() {
        let green = ran("echo fine", LIMIT).await;
        assert_eq!(green.cause(), None);
        assert_eq!(green.evidence[1], "  fine");
        let red = ran("echo no; echo node worker-1 is not Ready >&2; exit 7", LIMIT).await;
        let cause = red.cause().expect("red");
        assert!(cause.starts_with("the script: exit code 7 after "), "{cause}");
        assert!(cause.ends_with(": no / node worker-1 is not Ready"), "{cause}");
        let killed = ran("kill -9 $$", LIMIT).await.cause().expect("red");
        assert!(killed.contains("killed by signal 9") && killed.ends_with("it wrote nothing"), "{killed}");
    }

    #[tokio::test]
    async fn a_time_limit_is_a_failure() {
        let cause = ran("echo waiting; sleep 600", Duration::from_secs(1)).await.cause().expect("red");
        assert_eq!(cause, "the script: it did not end within 1 s and was killed: waiting");
    }

    #[test]
    fn a_long_output_is_an_excerpt() {
        let lines: Vec<_> = (0..100).map(|line| line.to_string()).collect();
        let kept = excerpt(&lines);
        assert_eq!(kept.len(), FIRST_LINES + LAST_LINES + 1);
        assert_eq!((kept[FIRST_LINES].as_str(), kept.last().map(String::as_str)), ("[60 lines]", Some("99")));
    }
}
