//! The check as a whole: Talos' own library, the kinds of files, and the rules of the lab.

use lab_model::{Diagnostic, Diagnostics, Severity};

use super::{
    config_set::ConfigSet,
    judge::{self, Judged, NOT_YAML},
    kinds::{Other, other},
    library::{NotAsked, TalosLibrary},
    rules,
};
use crate::config::TalosContract;

/// The rule for files that are no machine configs.
const NO_CONFIG: &str = "no-config";

/// The result of a check.
#[derive(Debug)]
pub struct Checked {
    pub findings: Diagnostics,
    /// The version of Talos' library, or the reason why it was not asked.
    pub asked: Result<String, NotAsked>,
}

/// Checks the files of a cluster for a release.
pub fn check(set: &ConfigSet, contract: TalosContract, library: &dyn TalosLibrary) -> Checked {
    let answer = judge::judge(set, contract, library);
    let mut own = Vec::new();
    rules::run(set, &mut own);
    let mut findings = Vec::new();
    let (of_files, of_others) = answer.files.split_at(set.files.len());
    for (file, judged) in set.files.iter().zip(of_files) {
        let mine = take(&mut own, &file.name);
        match other(file).filter(|other| other.certain || judged.refused != Some(false)) {
            // Everything else that can be said of such a file has this cause.
            Some(other) => findings.push(no_config(&file.name, &other)),
            None => findings.extend(together(judged, mine)),
        }
    }
    for (file, judged) in set.unreadable.iter().zip(of_others) {
        let template = rules::placeholders::in_text(&file.text);
        match template.filter(|_| judged.refused != Some(false)) {
            Some(finding) => findings.push(finding.in_file(&file.name)),
            None => findings.extend(judged.findings.iter().cloned()),
        }
    }
    findings.extend(own);
    Checked { findings: Diagnostics::by_place(findings), asked: answer.asked }
}

/// Removes and returns the findings in a file.
fn take(findings: &mut Vec<Diagnostic>, name: &str) -> Vec<Diagnostic> {
    let (taken, left) = std::mem::take(findings).into_iter().partition(|finding| finding.file == name);
    *findings = left;
    taken
}

fn no_config(name: &str, other: &Other) -> Diagnostic {
    let message = format!("this file is not a machine config: it is {}", other.is);
    Diagnostic::at(&other.position, message).in_file(name).rule(NO_CONFIG).help(other.help)
}

/// Leaves out what Talos says about a value that was not filled in: the rule of the lab names the cause.
fn together(judged: &Judged, own: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let filled = |finding: &&Diagnostic| {
        let same_line = |other: &Diagnostic| {
            let line = |finding: &Diagnostic| finding.position.map(|position| position.line);
            other.rule.as_deref() == Some(rules::placeholders::RULE)
                && other.severity == Severity::Error
                && line(other) == line(finding)
        };
        finding.rule.as_deref() == Some(NOT_YAML) || !own.iter().any(same_line)
    };
    let theirs: Vec<_> = judged.findings.iter().filter(filled).cloned().collect();
    theirs.into_iter().chain(own).collect()
}
