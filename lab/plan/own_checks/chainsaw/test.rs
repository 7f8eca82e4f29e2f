//! A test as plain data.

use std::{fmt, time::Duration};

use serde::Serialize;
use serde_json::Value;

use crate::{
    cluster::Manifest,
    own_checks::{Condition, ObjectKey},
};

/// A test: steps in a namespace of its own.
#[derive(Clone, Debug, Serialize)]
pub struct ChainsawTest {
    pub name: String,
    /// The namespace of the test; by default one with a random name, which the test creates and removes.
    pub namespace: Option<String>,
    /// The time for the removal of what the test applied.
    pub cleanup: Duration,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub name: String,
    pub operations: Vec<Operation>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Operation {
    /// The line in the file of the test.
    pub line: usize,
    /// The time limit on the reference host.
    pub limit: Duration,
    pub action: Action,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    Apply(Vec<Manifest>),
    /// Each of the partial objects matches an object.
    Assert(Vec<Partial>),
    /// None of the partial objects matches an object.
    Error(Vec<Partial>),
    Delete(Vec<Target>),
    Script(Script),
    Wait {
        target: Target,
        until: Until,
    },
}

impl Action {
    /// The name in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Apply(_) => "apply",
            Self::Assert(_) => "assert",
            Self::Error(_) => "error",
            Self::Delete(_) => "delete",
            Self::Script(_) => "script",
            Self::Wait { .. } => "wait",
        }
    }
}

/// What an object must have, as far as it is given.
#[derive(Clone, Debug, Serialize)]
pub struct Partial {
    pub target: Target,
    pub object: Value,
}

/// A script for the shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Script {
    pub content: String,
    pub env: Vec<(String, String)>,
}

/// One object by name, or all objects of a kind with these labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    pub api_version: String,
    pub kind: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
    /// A label selector; empty for all.
    pub labels: String,
}

impl Target {
    /// The key of the object, if the target has a name.
    pub fn key(&self) -> Option<ObjectKey> {
        Some(ObjectKey {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone()?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.labels.as_str()) {
            (Some(name), _) => write!(f, "{}/{name}", self.kind),
            (None, "") => write!(f, "any {}", self.kind),
            (None, labels) => write!(f, "{} with {labels}", self.kind),
        }
    }
}

/// What an operation `wait` waits for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Until {
    Deletion,
    Met(Condition),
}
