//! Reads a file of tests.

use std::time::Duration;

use serde_json::Value;

use super::{
    fields::{self, Fields},
    test::{Action, ChainsawTest, Operation, Partial, Script, Step, Target, Until},
    tree::{At, Tree},
};
use crate::{
    cluster::Manifest,
    own_checks::{Condition, JsonPath},
};

const API: &str = "chainsaw.kyverno.io/v1alpha1";

/// Why the lab does not run a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub line: usize,
    /// Without text of the file.
    pub message: String,
}

/// Reads the files that a test names. The path is relative to the file of the test. The error has no text of the file.
pub type Files<'a> = dyn FnMut(&str) -> Result<String, String> + 'a;

/// The default time limits of Chainsaw (`DefaultTimeouts`).
#[derive(Clone, Copy)]
struct Timeouts {
    apply: Duration,
    assert: Duration,
    cleanup: Duration,
    delete: Duration,
    error: Duration,
    exec: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            apply: seconds(5),
            assert: seconds(30),
            cleanup: seconds(30),
            delete: seconds(15),
            error: seconds(30),
            exec: seconds(5),
        }
    }
}

impl Timeouts {
    /// Replaces the limits that a mapping has in `timeouts`.
    fn with(mut self, at: &At<'_>) -> Result<Self, Problem> {
        let Some(given) = at.get("timeouts") else { return Ok(self) };
        given.only(&fields::TIMEOUTS)?;
        for (key, limit) in [
            ("apply", &mut self.apply),
            ("assert", &mut self.assert),
            ("cleanup", &mut self.cleanup),
            ("delete", &mut self.delete),
            ("error", &mut self.error),
            ("exec", &mut self.exec),
        ] {
            if let Some(at) = given.get(key) {
                *limit = duration(&at)?;
            }
        }
        Ok(self)
    }
}

/// Reads all tests of a file.
///
/// # Errors
/// The first problem of each test.
pub fn read(text: &str, files: &mut Files<'_>) -> Result<Vec<ChainsawTest>, Vec<Problem>> {
    let tree = Tree::read(text).map_err(|problem| vec![problem])?;
    let (mut tests, mut problems) = (Vec::new(), Vec::new());
    for document in tree.documents() {
        match test(&document, files) {
            Ok(test) => tests.push(test),
            Err(problem) => problems.push(problem),
        }
    }
    if tests.is_empty() && problems.is_empty() {
        problems.push(Problem { line: 1, message: "the file has no test".to_owned() });
    }
    if problems.is_empty() { Ok(tests) } else { Err(problems) }
}

fn test(at: &At<'_>, files: &mut Files<'_>) -> Result<ChainsawTest, Problem> {
    at.only(&fields::DOCUMENT)?;
    if at.required("apiVersion")?.value != API || at.required("kind")?.value != "Test" {
        return Err(at.problem(format!("only documents of the kind Test of {API} are supported")));
    }
    let name = at.required("metadata")?.required("name")?.text()?;
    let spec = at.required("spec")?;
    spec.only(&fields::SPEC)?;
    let timeouts = Timeouts::default().with(&spec)?;
    let namespace = spec.get("namespace");
    if let Some(namespace) = &namespace {
        namespace.without_expressions()?;
    }
    let steps = spec.required("steps")?;
    let steps = steps.items().enumerate().map(|(number, at)| step(&at, number + 1, timeouts, files));
    let steps: Vec<_> = steps.collect::<Result<_, _>>()?;
    let looks = |step: &Step| step.operations.iter().any(|operation| is_look(&operation.action));
    if !steps.iter().any(looks) {
        return Err(spec.problem("the test has no assert, error, script or wait, so it checks nothing"));
    }
    let namespace = namespace.map(|at| at.text()).transpose()?;
    Ok(ChainsawTest { name, namespace, cleanup: timeouts.cleanup, steps })
}

fn is_look(action: &Action) -> bool {
    !matches!(action, Action::Apply(_) | Action::Delete(_))
}

fn step(at: &At<'_>, number: usize, timeouts: Timeouts, files: &mut Files<'_>) -> Result<Step, Problem> {
    at.only(&fields::STEP)?;
    let timeouts = timeouts.with(at)?;
    let name = at.text_at("name")?.unwrap_or_else(|| format!("step {number}"));
    let operations = at.required("try")?.items().map(|at| operation(&at, timeouts, files));
    Ok(Step { name, operations: operations.collect::<Result<_, _>>()? })
}

fn operation(at: &At<'_>, timeouts: Timeouts, files: &mut Files<'_>) -> Result<Operation, Problem> {
    at.only(&fields::OPERATION)?;
    let given = |name: &str| at.get(name);
    let names = fields::OPERATION.read.iter().filter(|name| **name != "description");
    let found: Vec<_> = names.filter_map(|name| Some((*name, given(name)?))).collect();
    let [(name, of)] = found.as_slice() else {
        return Err(at.problem("an operation is exactly one of apply, assert, delete, error, script, wait"));
    };
    let (allowed, limit): (&Fields, Duration) = match *name {
        "apply" => (&fields::APPLY, timeouts.apply),
        "assert" => (&fields::ASSERT, timeouts.assert),
        "error" => (&fields::ASSERT, timeouts.error),
        "delete" => (&fields::DELETE, timeouts.delete),
        "script" => (&fields::SCRIPT, timeouts.exec),
        // kubectl wait runs as a command of Chainsaw.
        _ => (&fields::WAIT, timeouts.exec),
    };
    of.only(allowed)?;
    let limit = of.get("timeout").map(|at| duration(&at)).transpose()?.unwrap_or(limit);
    let action = match *name {
        "apply" => Action::Apply(manifests(of, files)?),
        "assert" => Action::Assert(partials(of, files)?),
        "error" => Action::Error(partials(of, files)?),
        "delete" => Action::Delete(deleted(of, files)?),
        "script" => Action::Script(script(of)?),
        _ => wait(of)?,
    };
    Ok(Operation { line: at.line(), limit, action })
}

/// A duration as Go writes it, e.g. `1m30s`.
fn duration(at: &At<'_>) -> Result<Duration, Problem> {
    let text = at.text()?;
    let read = text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    let read = read.filter(|time| !time.is_zero() && *time <= Duration::from_secs(24 * 3600));
    read.ok_or_else(|| at.problem("this is not a duration up to a day, as 30s or 1m30s"))
}

/// The objects of `resource` or `file`, with the line for problems.
fn objects(at: &At<'_>, files: &mut Files<'_>) -> Result<Vec<(usize, Value)>, Problem> {
    match (at.get("resource"), at.get("file")) {
        (Some(resource), None) => {
            resource.without_expressions()?;
            Ok(vec![(resource.line(), resource.value.clone())])
        }
        (None, Some(file)) => {
            let path = file.text()?;
            if path.contains("://") || path.contains(['*', '?', '[']) {
                return Err(file.problem("URLs and patterns in `file` are not supported; name one file"));
            }
            let text = files(&path).map_err(|message| file.problem(message))?;
            let in_file = |problem: Problem| {
                file.problem(format!("line {} of the file: {}", problem.line, problem.message))
            };
            let tree = Tree::read(&text).map_err(in_file)?;
            let mut objects = Vec::new();
            for document in tree.documents() {
                document.without_expressions().map_err(in_file)?;
                objects.push((file.line(), document.value.clone()));
            }
            if objects.is_empty() {
                return Err(file.problem("the file has no object"));
            }
            Ok(objects)
        }
        _ => Err(at.problem("give either `resource` or `file`")),
    }
}

fn manifests(at: &At<'_>, files: &mut Files<'_>) -> Result<Vec<Manifest>, Problem> {
    let objects =
        objects(at, files)?.into_iter().map(|(line, object)| match Manifest::new("the test", object) {
            Some(Ok(manifest)) => Ok(manifest),
            Some(Err(message)) => Err(Problem { line, message }),
            None => Err(Problem { line, message: "the object is empty".to_owned() }),
        });
    objects.collect()
}

fn partials(at: &At<'_>, files: &mut Files<'_>) -> Result<Vec<Partial>, Problem> {
    let objects = objects(at, files)?.into_iter();
    objects.map(|(line, object)| Ok(Partial { target: target_of(&object, line)?, object })).collect()
}

/// The objects that a partial object or a manifest is about.
fn target_of(object: &Value, line: usize) -> Result<Target, Problem> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let missing = |key: &str| Problem { line, message: format!("the object has no {key}") };
    Ok(Target {
        api_version: text("/apiVersion").ok_or_else(|| missing("apiVersion"))?,
        kind: text("/kind").ok_or_else(|| missing("kind"))?,
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
        labels: selector(object.pointer("/metadata/labels"), line)?,
    })
}

fn deleted(at: &At<'_>, files: &mut Files<'_>) -> Result<Vec<Target>, Problem> {
    let Some(reference) = at.get("ref") else {
        let objects = objects(at, files)?.into_iter();
        return objects.map(|(line, object)| target_of(&object, line)).collect();
    };
    reference.only(&fields::REFERENCE)?;
    reference.without_expressions()?;
    let labels = selector(reference.value.get("labels"), reference.line())?;
    Ok(vec![Target { labels, ..named(&reference)? }])
}

/// Labels as a selector.
fn selector(labels: Option<&Value>, line: usize) -> Result<String, Problem> {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    let pairs = labels.map(|(key, value)| match value.as_str() {
        Some(value) => Ok(format!("{key}={value}")),
        None => Err(Problem { line, message: "a label is not a text".to_owned() }),
    });
    Ok(pairs.collect::<Result<Vec<_>, _>>()?.join(","))
}

/// A target with the keys `apiVersion`, `kind`, `name` and `namespace` of a mapping.
fn named(at: &At<'_>) -> Result<Target, Problem> {
    Ok(Target {
        api_version: at.required("apiVersion")?.text()?,
        kind: at.required("kind")?.text()?,
        namespace: at.text_at("namespace")?,
        name: at.text_at("name")?,
        labels: String::new(),
    })
}

fn script(at: &At<'_>) -> Result<Script, Problem> {
    let content = at.required("content")?.text()?;
    let mut env = Vec::new();
    for variable in at.get("env").iter().flat_map(At::items) {
        variable.only(&fields::VARIABLE)?;
        let (name, value) = (variable.required("name")?, variable.required("value")?);
        name.without_expressions()?;
        value.without_expressions()?;
        env.push((name.text()?, value.text()?));
    }
    Ok(Script { content, env })
}

fn wait(at: &At<'_>) -> Result<Action, Problem> {
    at.without_expressions()?;
    let labels = at.text_at("selector")?.unwrap_or_default();
    let target = Target { labels, ..named(at)? };
    let until = at.required("for")?;
    until.only(&fields::FOR)?;
    let until = match (until.get("condition"), until.value.get("deletion"), until.get("jsonPath")) {
        (Some(condition), None, None) => {
            condition.only(&fields::CONDITION)?;
            let status = condition.text_at("value")?.unwrap_or_else(|| "true".to_owned());
            // The status of a condition is True, False or Unknown, and kubectl ignores case.
            let status =
                ["True", "False", "Unknown"].into_iter().find(|known| known.eq_ignore_ascii_case(&status));
            let status =
                status.ok_or_else(|| condition.problem("`value` is True, False or Unknown"))?.to_owned();
            Until::Met(Condition::Status { kind: condition.required("name")?.text()?, status })
        }
        (None, Some(_), None) => Until::Deletion,
        (None, None, Some(path)) => {
            path.only(&fields::JSON_PATH)?;
            let (text, value) = (path.required("path")?.text()?, path.text_at("value")?);
            let read = JsonPath::parse(&text);
            let read = read.map_err(|_| path.problem("the path is not JSONPath, as {.status.phase}"))?;
            Until::Met(Condition::JsonPath { path: read, value })
        }
        _ => return Err(until.problem("`for` is exactly one of condition, deletion, jsonPath")),
    };
    Ok(Action::Wait { target, until })
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
