//! Reads shell scripts for the usual reasons why a test passes without a look. This is no parser of the shell: it knows
//! the forms that people write, line by line.

use std::{fmt, sync::LazyLock};

use regex::Regex;
use serde::Serialize;

/// Why a line may hide a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// `|| true` after a command that looks at something.
    FailureDropped,
    /// `exit 0` or `return 0` when a tool is missing.
    MissingToolPasses,
    /// The status of a pipe is that of a last command that cannot fail.
    PipeUnchecked,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FailureDropped => "`|| true` drops the failure of this command; let it fail",
            Self::MissingToolPasses => "without its tool the test passes; exit with 1, for it could not look",
            Self::PipeUnchecked => {
                "the status is that of the last command of the pipe; write `set -o pipefail` at the top"
            }
        })
    }
}

/// The commands that look at a cluster, or judge what was seen.
const LOOKS: &str = r"(?:kubectl|talosctl|talm|helm|crane|curl|wget|jq|yq|grep|egrep|test|\[\[?|diff|cmp|nc|ping|dig|nslookup|lab)";
/// Subcommands that clean up or explain, and may fail.
static CLEANS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\b(?:delete|logs|describe|uninstall|dashboard|cordon|drain)\b").ok());

static DROPPED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(&format!(r"(?:^|[;&|(!]|\bif\b|\bthen\b|\bdo\b|\$\()\s*{LOOKS}\s.*\|\|\s*(?:true\b|:\s*(?:;|\)|$)|exit 0\b|return 0\b)"))
        .ok()
});
static ASKS_FOR_TOOL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\b(?:command\s+-v|which|type\s+-[pPt]|hash|type)\s+\S").ok());
static PASSES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\b(?:exit|return)\s+0\b|\b(?:exit|return)\s*(?:;|\}|$)").ok());
static PIPE_END: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(&format!(
        r"(?:^|[;&(]|\bif\b|\bthen\b|\bdo\b)\s*{LOOKS}\s[^|]*(?:\|[^|]+)*\|\s*(?:tee|cat|head|tail|sort|column|sed|tr|cut|wc|uniq|nl|fold)\b[^|]*$"
    ))
    .ok()
});

/// Returns each reason with its line.
pub fn read_script(text: &str) -> Vec<(usize, Reason)> {
    let pipefail = text.lines().map(code).any(|line| line.contains("set ") && line.contains("pipefail"));
    let mut found = Vec::new();
    // The line that asked for a tool, while its block is open.
    let mut asked: Option<usize> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = code(line);
        let is = |pattern: &LazyLock<Option<Regex>>| {
            pattern.as_ref().is_some_and(|pattern| pattern.is_match(line))
        };
        if is(&ASKS_FOR_TOOL) {
            if line.contains("||") && is(&PASSES) {
                found.push((number, Reason::MissingToolPasses));
            } else if line.contains("if !") || line.contains("||") {
                asked = Some(number);
            }
        }
        if asked.is_some() {
            if is(&PASSES) && asked != Some(number) {
                found.push((number, Reason::MissingToolPasses));
                asked = None;
            } else if ends_block(line) || number > asked.unwrap_or(number) + 6 {
                asked = None;
            }
        }
        if is(&DROPPED) && !is(&CLEANS) && !is(&ASKS_FOR_TOOL) {
            found.push((number, Reason::FailureDropped));
        }
        if !pipefail && is(&PIPE_END) && !is(&CLEANS) {
            found.push((number, Reason::PipeUnchecked));
        }
    }
    found
}

fn ends_block(line: &str) -> bool {
    matches!(line.trim(), "fi" | "}" | "else") || line.trim().starts_with("elif ")
}

/// The line without a comment.
fn code(line: &str) -> &str {
    if line.trim_start().starts_with('#') {
        return "";
    }
    line.split_once(" #").map_or(line, |(code, _)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(text: &str) -> Vec<(usize, Reason)> {
        read_script(text)
    }

    #[test]
    fn a_dropped_failure_is_found_and_a_clean_up_is_not_one() {
        let text = "set -e\nkubectl get nodes | grep -q Ready || true\nif ! kubectl wait --all nodes || :; then\nkubectl delete pod a || true\nrm -f x || true\n# curl x || true\nresult=$(curl -s http://x || true)\n";
        assert_eq!(
            reasons(text),
            [(2, Reason::FailureDropped), (3, Reason::FailureDropped), (7, Reason::FailureDropped)]
        );
    }

    #[test]
    fn a_missing_tool_that_passes_is_found_in_every_usual_form() {
        for text in [
            "command -v kubectl >/dev/null || exit 0\n",
            "which crane || { echo skipped; return 0; }\n",
            "if ! command -v talosctl >/dev/null; then\n  echo skipped\n  return 0\nfi\n",
            "if ! command -v talosctl; then\n  exit\nfi\n",
        ] {
            let found = reasons(text);
            assert!(matches!(found[..], [(_, Reason::MissingToolPasses)]), "{text}: {found:?}");
        }
        for text in [
            "if ! command -v kubectl; then\n  echo 'no kubectl' >&2\n  exit 1\nfi\nexit 0\n",
            "command -v kubectl || exit 1\n",
            "if command -v jq; then\n  jq . x\nfi\nreturn 0\n",
            "have() {\n  if command -v \"$1\"; then\n    return 0\n  fi\n  return 1\n}\n",
        ] {
            assert_eq!(reasons(text), [], "{text}");
        }
    }

    #[test]
    fn a_pipe_into_a_command_that_cannot_fail_needs_pipefail() {
        let text = "kubectl get nodes | tee log\nkubectl get nodes | grep Ready\nkubectl get pods -A | grep x | wc -l\n";
        assert_eq!(reasons(text), [(1, Reason::PipeUnchecked), (3, Reason::PipeUnchecked)]);
        assert_eq!(reasons(&format!("set -euo pipefail\n{text}")), []);
    }
}
