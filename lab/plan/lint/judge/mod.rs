//! Asks Talos' own library about the files, and gives its answers a place and a way out.
//!
//! ```text
//! file -> shape (config, part of one, patch) -> bases -> library -> statements -> diagnostics
//! ```
//!
//! If the library cannot be asked, the tables of keys answer.

mod advice;
mod bases;
mod locate;
mod message;
mod shape;

pub(in crate::lint) use shape::is_json_patch;

use lab_model::{Diagnostic, Severity};

use super::{
    config_set::{ConfigSet, Unreadable},
    library::{JudgeRequest, JudgedText, NotAsked, Stage, TalosLibrary, Verdict},
    schema::Schema,
};
use crate::{config::TalosContract, user_config::UserConfig};
use bases::Bases;
use shape::Shape;

/// The rule for text that is not YAML.
pub const NOT_YAML: &str = "not-yaml";
/// The rule for errors of the library without a rule of their own.
pub const REFUSED: &str = "talos-refuses";
/// The rule for warnings of the library.
pub const WARNED: &str = "talos-warns";
/// The rule for files that Talos reads and the lab does not.
const NOT_READ: &str = "not-read-by-the-lab";

/// The statements of the library about one file.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Whether the library refuses the file; `None` if it was not asked.
    pub refused: Option<bool>,
    pub findings: Vec<Diagnostic>,
}

/// What the library or the tables say about all files, in the order of [`ConfigSet::files`] and then
/// [`ConfigSet::unreadable`].
pub(super) struct Answer {
    pub files: Vec<Judged>,
    /// The version of the library, or the reason why it was not asked.
    pub asked: Result<String, NotAsked>,
}

/// Asks the library about all files.
pub(super) fn judge(set: &ConfigSet, contract: TalosContract, library: &dyn TalosLibrary) -> Answer {
    let schema = Schema::of(contract);
    if set.files.is_empty() && set.unreadable.is_empty() {
        return Answer { files: Vec::new(), asked: Ok(String::new()) };
    }
    let mut bases = Bases::new(set);
    let mut texts = Vec::new();
    for file in &set.files {
        texts.push(JudgedText { text: file.text(), bases: bases.of(Shape::of(file)) });
    }
    for file in &set.unreadable {
        texts.push(JudgedText { text: &file.text, bases: bases.of(Shape::Patch) });
    }
    match library.judge(contract, &JudgeRequest { bases: bases.list(), texts }) {
        Ok(answer) => {
            let (of_files, of_others) = answer.verdicts.split_at(set.files.len());
            let files = set.files.iter().zip(of_files).map(|(file, verdict)| told(file, verdict, schema));
            let others = set.unreadable.iter().zip(of_others).map(|(file, verdict)| unread(file, verdict));
            Answer { files: files.chain(others).collect(), asked: Ok(answer.library) }
        }
        Err(reason) => {
            let files = set.files.iter().map(|file| of_tables(file, contract, schema));
            let others = set
                .unreadable
                .iter()
                .map(|file| Judged { refused: None, findings: vec![not_yaml(file.error.clone())] });
            Answer { files: files.chain(others).collect(), asked: Err(reason) }
        }
    }
}

/// The statements about a file that the lab can read.
fn told(file: &UserConfig, verdict: &Verdict, schema: &Schema) -> Judged {
    let mut findings = Vec::new();
    for statement in &verdict.findings {
        // What a generated base lacks, the real one may have.
        if statement.stage == Stage::Missing {
            findings.extend(nothing_to_delete(file, schema));
            continue;
        }
        for finding in locate::diagnose(file, statement, schema) {
            findings.push(finding.in_file(&file.name));
        }
    }
    if !verdict.accepted && findings.iter().all(|finding| finding.severity != Severity::Error) {
        findings.push(Diagnostic::of_file("Talos refuses the file").rule(REFUSED).in_file(&file.name));
    }
    findings.dedup();
    Judged { refused: Some(!verdict.accepted), findings }
}

/// A deletion of a document of a kind that the release does not have.
fn nothing_to_delete(file: &UserConfig, schema: &Schema) -> Vec<Diagnostic> {
    let unknown = file.documents.iter().filter_map(|document| {
        let kind = document.kind().filter(|kind| document.get(&["$patch"]).is_some() && !schema.has(kind))?;
        Some(file.finding(
            Severity::Warning,
            "nothing-to-delete",
            document.position,
            format!("there is nothing to delete: this release of Talos has no documents of the kind {kind}"),
            "leave the patch out for this release",
        ))
    });
    unknown.collect()
}

/// The verdict on a file that the lab cannot read.
fn unread(file: &Unreadable, verdict: &Verdict) -> Judged {
    let finding = if verdict.accepted {
        let message = format!("Talos reads this file and the lab does not: {}", file.error.message);
        let error = Diagnostic { message, ..file.error.clone() };
        error
            .severity(Severity::Warning)
            .rule(NOT_READ)
            .help("the rules of the lab were not applied to it; write the YAML in a simpler form")
    } else {
        not_yaml(file.error.clone())
    };
    Judged { refused: Some(!verdict.accepted), findings: vec![finding] }
}

fn not_yaml(error: Diagnostic) -> Diagnostic {
    error
        .rule(NOT_YAML)
        .help("correct the YAML here or a few lines above: quotes, indentation, a duplicate key")
}

/// The deviations of a file from the tables of keys.
fn of_tables(file: &UserConfig, contract: TalosContract, schema: &Schema) -> Judged {
    let mut findings = Vec::new();
    for document in file.documents.iter().filter(|document| !shape::is_json_patch(document)) {
        for deviation in schema.check(document) {
            let message = format!(
                "{}, according to the lab's table of keys of Talos {}",
                deviation.message,
                contract.as_str()
            );
            findings.push(Diagnostic { message, ..deviation }.in_file(&file.name));
        }
    }
    Judged { refused: None, findings }
}
