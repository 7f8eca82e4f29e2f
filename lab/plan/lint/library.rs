//! Talos' own library as the judge of configs: the questions and the answers.
//!
//! This crate starts no process. `lab-validator` implements [`TalosLibrary`] with a program that links the
//! library. The types here are the program's input and output.

use serde::{Deserialize, Serialize};

use crate::config::TalosContract;

/// Judges texts as a Talos release does.
pub trait TalosLibrary {
    /// Returns a verdict on each text.
    ///
    /// # Errors
    /// If the library could not be asked.
    fn judge(&self, contract: TalosContract, request: &JudgeRequest<'_>) -> Result<JudgeAnswer, NotAsked>;
}

/// The reason why the library was not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Talos' own library was not asked: {0}")]
pub struct NotAsked(pub String);

/// No library: the tables of keys answer.
#[derive(Clone, Copy, Debug)]
pub struct NoLibrary;

impl TalosLibrary for NoLibrary {
    fn judge(&self, _: TalosContract, _: &JudgeRequest<'_>) -> Result<JudgeAnswer, NotAsked> {
        Err(NotAsked("this check runs without it".into()))
    }
}

/// Texts that are judged independently of each other.
#[derive(Debug, Default, Serialize)]
pub struct JudgeRequest<'a> {
    /// Configs that patches are applied to.
    pub bases: Vec<Base>,
    pub texts: Vec<JudgedText<'a>>,
}

/// A config that patches are applied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Base {
    pub text: String,
    /// Whether the config stands for one that nobody gave. The real one may contain what it lacks.
    pub generated: bool,
}

/// A text to judge.
#[derive(Debug, Serialize)]
pub struct JudgedText<'a> {
    pub text: &'a str,
    /// Indices of the bases of a patch, which is accepted if it fits one of them. Empty for a whole config.
    pub bases: Vec<usize>,
}

/// The answer to a request.
#[derive(Clone, Debug, Deserialize)]
pub struct JudgeAnswer {
    /// The version of the library, e.g. `v1.13.9`.
    pub library: String,
    /// One verdict for each text.
    pub verdicts: Vec<Verdict>,
}

/// What the library says about a text.
#[derive(Clone, Debug, Deserialize)]
pub struct Verdict {
    pub accepted: bool,
    pub findings: Vec<Statement>,
}

/// One error or warning of the library.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Statement {
    pub stage: Stage,
    /// The first line of the document that does not load, or 0.
    pub line: usize,
    /// The document of an error of validation, as the library names it.
    pub about: String,
    pub text: String,
}

/// What the library did when it found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Load,
    /// A patch was applied.
    Patch,
    Validate,
    /// A warning.
    Warning,
    /// A patch deletes or replaces what a generated base does not contain.
    Missing,
}
