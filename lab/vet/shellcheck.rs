//! What shellcheck knows about lost exit codes, if it is installed.

use std::{path::Path, process::Command, time::Duration};

use lab_model::visible;
use lab_vm::process::Processes;
use serde::Deserialize;

/// The findings that are about a status that is lost: `A && B || C` (2015), a declaration (2155), a directory that is
/// not entered (2164), and functions and substitutions without `set -e` (2310 to 2312).
const CODES: [u32; 6] = [2015, 2155, 2164, 2310, 2311, 2312];
const CHECKS: &str = "--enable=check-extra-masked-returns,check-set-e-suppressed";
const LIMIT: Duration = Duration::from_secs(30);
const MOST: usize = 50;

#[derive(Deserialize)]
struct Report {
    comments: Vec<Comment>,
}

#[derive(Deserialize)]
struct Comment {
    line: usize,
    code: u32,
    message: String,
}

/// Returns lines with messages, or `None` if shellcheck is not installed or does not answer.
pub async fn shellcheck(script: &Path, processes: &Processes) -> Option<Vec<(usize, String)>> {
    let mut command = Command::new("shellcheck");
    command.args(["--format=json1", "--norc", CHECKS, "--"]).arg(script);
    let ran = processes.run("shellcheck", command, LIMIT).await.ok()?;
    read(&ran.output.to_string())
}

fn read(text: &str) -> Option<Vec<(usize, String)>> {
    let report: Report = serde_json::from_str(text).ok()?;
    let of_statuses = report.comments.into_iter().filter(|comment| CODES.contains(&comment.code));
    let found = of_statuses.map(|comment| {
        let message = visible(&comment.message, 200);
        (comment.line, format!("SC{}: {message}", comment.code))
    });
    Some(found.take(MOST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_findings_about_lost_statuses_are_taken() {
        let text = r#"{"comments":[
            {"file":"x.sh","line":2,"endLine":2,"column":1,"endColumn":2,"level":"warning","code":2155,"message":"Declare and assign separately","fix":null},
            {"file":"x.sh","line":3,"endLine":3,"column":1,"endColumn":2,"level":"style","code":2006,"message":"Use $(...)","fix":null}]}"#;
        assert_eq!(read(text), Some(vec![(2, "SC2155: Declare and assign separately".to_owned())]));
        assert_eq!(read("not json"), None);
    }
}
