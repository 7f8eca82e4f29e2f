//! Gives each statement of the library its places in the file, and what to do.

use lab_model::{
    Diagnostic, Position, Severity,
    words::choice,
    yaml::{YamlNode, YamlValue},
};

use super::{
    NOT_YAML, REFUSED, WARNED,
    advice::{Advice, places},
    message::{Causes, document_line, quoted, syntax_line, without_value},
};
use crate::{
    lint::{
        library::{Stage, Statement},
        schema::Schema,
    },
    user_config::{UserConfig, machine_kind},
};

/// The last keys of paths whose values are secrets.
const SECRET_KEYS: [&str; 8] = [
    "token",
    "key",
    "secret",
    "crt",
    "id",
    "secretboxEncryptionSecret",
    "aescbcEncryptionSecret",
    "passphrase",
];
/// Maximum length of a quotation of the library in characters.
const QUOTATION_LIMIT: usize = 300;

/// Returns the findings of one statement, without the name of the file.
pub(super) fn diagnose(file: &UserConfig, statement: &Statement, schema: &Schema) -> Vec<Diagnostic> {
    match statement.stage {
        Stage::Load => loading(file, statement, schema),
        Stage::Warning => {
            let found = validation(file, statement, "Talos warns");
            found.into_iter().map(|finding| finding.severity(Severity::Warning).rule(WARNED)).collect()
        }
        Stage::Patch | Stage::Validate | Stage::Missing => match Causes::of(&statement.text) {
            // A config that a list of JSON patch operations made.
            Causes::Other(_) => validation(file, statement, "Talos says"),
            _ => vec![plain(Position::START, &statement.text)],
        },
    }
}

fn loading(file: &UserConfig, statement: &Statement, schema: &Schema) -> Vec<Diagnostic> {
    let text = &statement.text;
    let document = document_at(file, document_line(text).unwrap_or(statement.line));
    let start = document.map_or(Position::START, |document| document.position);
    match Causes::of(text) {
        Causes::UnknownKeys => {
            let found = document.map(|document| unknown_keys(document, schema)).unwrap_or_default();
            if found.is_empty() {
                let message = "Talos says \"unknown keys found during decoding\" of this document";
                return vec![Diagnostic::at(&start, message).rule("unknown-key")];
            }
            found
        }
        Causes::Values(values) => {
            values.into_iter().map(|(line, text)| wrong_value(file, document, line, text)).collect()
        }
        Causes::NotRegistered => vec![not_registered(document, start, text, schema)],
        Causes::Twice => {
            let found = Diagnostic::at(&start, format!("Talos says \"{}\"", shown(text)));
            vec![found.rule("document-twice").help("keep one of them, or give them different names")]
        }
        Causes::Syntax => {
            let line = syntax_line(text).map_or(start, |line| Position { line, column: 1 });
            let advice = Advice::of(text, document.and_then(machine_kind));
            let help = advice.map_or("correct the YAML here or a few lines above", |advice| &advice.help);
            vec![plain(line, text).rule(NOT_YAML).help(help)]
        }
        Causes::Other(text) => match file.documents.is_empty() {
            true => vec![plain(Position::START, text)],
            false => vec![by_words(document, start, text)],
        },
    }
}

/// Returns the document that begins at a line, or the last one before it.
fn document_at(file: &UserConfig, line: usize) -> Option<&YamlNode> {
    let mut documents = file.documents.iter();
    let after = documents.clone().find(|document| document.position.line >= line.max(1));
    let within = documents.rfind(|document| document.position.line <= line.max(1));
    match (within, after) {
        (Some(within), Some(after)) if after.position.line == line => Some(after).or(Some(within)),
        // A line between documents is that of the mark before one.
        (_, Some(after)) => Some(after),
        (within, None) => within,
    }
}

fn unknown_keys(document: &YamlNode, schema: &Schema) -> Vec<Diagnostic> {
    let unknown =
        schema.check(document).into_iter().filter(|found| found.rule.as_deref() == Some("unknown-key"));
    let mut found: Vec<_> = unknown
        .map(|found| {
            let message = format!("{}; Talos says \"unknown keys found during decoding\"", found.message);
            Diagnostic { message, ..found }
        })
        .collect();
    // The table skips directives, because most of them are for patches.
    directives(document, String::new(), &mut found);
    found
}

fn directives(node: &YamlNode, path: String, found: &mut Vec<Diagnostic>) {
    for entry in node.entries() {
        if entry.key == "$patch" {
            let value = entry.node.text().unwrap_or_default();
            let place = if path.is_empty() { "the document" } else { path.as_str() };
            let message = format!("{place} has $patch: {value}; Talos reads it as an unknown key");
            let help = if value == "delete" {
                "a whole config cannot delete anything: remove the value instead"
            } else {
                "$patch: delete is the only directive; write the values that are to be there"
            };
            found.push(Diagnostic::at(&entry.position, message).rule("unknown-key").help(help));
        }
        directives(&entry.node, joined(&path, &entry.key), found);
    }
    for (index, item) in node.items().iter().enumerate() {
        directives(item, format!("{path}[{index}]"), found);
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A value of the wrong type or form.
fn wrong_value(file: &UserConfig, document: Option<&YamlNode>, line: usize, text: &str) -> Diagnostic {
    let documents: Vec<_> = match document {
        Some(document) => vec![document],
        None => file.documents.iter().collect(),
    };
    let mut on_line = Vec::new();
    for document in documents {
        nodes(document, String::new(), &mut |path, node| {
            if node.position.line == line {
                on_line.push((path.to_owned(), node));
            }
        });
    }
    let value = quoted(text).next().map(|value| value.trim_end_matches("...").to_owned());
    let is_collection = |node: &YamlNode| node.text().is_none();
    let found = on_line.iter().find(|(_, node)| match &value {
        Some(value) if !value.is_empty() => node.text().is_some_and(|text| text.starts_with(value.as_str())),
        _ if text.contains("!!map") => matches!(node.value, YamlValue::Map(_)),
        _ if text.contains("!!seq") => matches!(node.value, YamlValue::List(_)),
        _ => !is_collection(node),
    });
    let found = found.or_else(|| on_line.first());
    let (path, position) = found.map_or_else(
        || (String::new(), Position { line, column: 1 }),
        |(path, node)| (path.clone(), node.position),
    );
    let secret = path.rsplit('.').next().is_some_and(|key| SECRET_KEYS.contains(&key));
    let said = if secret { without_value(text) } else { text.to_owned() };
    let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
    let finding = Diagnostic::at(&position, format!("{place}Talos says \"{}\"", shown(&said)));
    let finding = finding.rule("wrong-type");
    match help_for_value(text, found.map(|(_, node)| *node)) {
        Some(help) => finding.help(help),
        None => finding,
    }
}

/// What to write instead of a value of the wrong type.
fn help_for_value(text: &str, node: Option<&YamlNode>) -> Option<String> {
    if let Some(advice) = Advice::of(text, None) {
        return Some(advice.help.clone());
    }
    let wanted = text.rsplit(" into ").next()?;
    let quoted = matches!(node.map(|node| &node.value), Some(YamlValue::Scalar { plain: false, .. }));
    let whole = |wanted: &str| {
        ["int", "uint"].iter().any(|kind| wanted.trim_start_matches('*').starts_with(kind))
            || wanted.ends_with("FileMode")
    };
    let help = match wanted {
        _ if !text.contains(" into ") => return None,
        "bool" | "*bool" if quoted => "write true or false without quotes",
        "bool" | "*bool" => "write true or false",
        "time.Duration" => "write a number with a unit, as 60s",
        wanted if whole(wanted) && quoted => "write a number without quotes",
        wanted if whole(wanted) => "write a whole number",
        "string" => "write a text",
        wanted if wanted.starts_with("[]") => "write a list (`- …` lines or […])",
        _ if text.contains("!!seq") || text.contains("!!str") => {
            "write a mapping (`key: value` lines or {…})"
        }
        _ => return None,
    };
    Some(help.to_owned())
}

fn not_registered(document: Option<&YamlNode>, start: Position, text: &str, schema: &Schema) -> Diagnostic {
    let kind = document.and_then(|document| document.get(&["kind"]));
    let version = document.and_then(|document| document.get(&["apiVersion"]));
    let name = kind.and_then(YamlNode::text).unwrap_or_default();
    let said = text.rsplit("): ").next().unwrap_or(text);
    let finding = |position: Position, help: String| {
        let message = format!("there is no such document: Talos says \"{}\"", shown(said));
        Diagnostic::at(&position, message).rule("unknown-kind").help(help)
    };
    let version_position = version.map_or(start, |version| version.position);
    match (kind, version.and_then(YamlNode::text)) {
        (Some(_), None) if schema.has(name) => finding(start, "write apiVersion: v1alpha1".into()),
        (Some(_), Some(version)) if schema.has(name) && version != "v1alpha1" => {
            finding(version_position, "write apiVersion: v1alpha1".into())
        }
        (Some(_), Some(version)) if version != "v1alpha1" && !schema.has(name) => finding(
            start,
            "put a Kubernetes object into cluster.inlineManifests of a control plane, or apply it with kubectl"
                .into(),
        ),
        (Some(kind), _) => {
            let kinds: Vec<_> = schema.kinds().collect();
            finding(kind.position, choice(name, &kinds, "kinds").unwrap_or_default())
        }
        (None, _) => finding(start, "add kind:, or put the keys below machine: or cluster:".into()),
    }
}

/// An error of validation: its places come from the table of advice, from paths in its words, or from values
/// that it quotes.
fn validation(file: &UserConfig, statement: &Statement, says: &str) -> Vec<Diagnostic> {
    let text = &statement.text;
    let kind = file.main().and_then(machine_kind);
    let message = format!("{says} \"{}\"", shown(text));
    let documents: Vec<_> = file.documents.iter().filter(|document| is_about(document, statement)).collect();
    let documents: Vec<_> = if documents.is_empty() { file.documents.iter().collect() } else { documents };
    if let Some(advice) = Advice::of(text, kind) {
        for path in &advice.at {
            let found: Vec<_> = documents.iter().flat_map(|document| places(document, path)).collect();
            if !found.is_empty() {
                let finding = |(path, position): (String, Position)| {
                    let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
                    Diagnostic::at(&position, format!("{place}{message}")).rule(REFUSED).help(&advice.help)
                };
                return found.into_iter().map(finding).collect();
            }
        }
        let start = documents.first().map_or(Position::START, |document| document.position);
        return vec![Diagnostic::at(&start, message).rule(REFUSED).help(&advice.help)];
    }
    let found = documents.iter().find_map(|document| by_value_or_path(document, text));
    let start = documents.first().map_or(Position::START, |document| document.position);
    vec![Diagnostic::at(&found.unwrap_or(start), message).rule(REFUSED)]
}

/// Returns whether the library names this document before the error.
fn is_about(document: &YamlNode, statement: &Statement) -> bool {
    match document.kind() {
        None => statement.about.contains("v1alpha1.Config"),
        Some(kind) => {
            let words = || statement.about.split(['/', ' ', ':', '(', ')']);
            let name = document.text_at(&["name"]);
            words().any(|word| word == kind) && name.is_none_or(|name| words().any(|word| word == name))
        }
    }
}

fn by_words(document: Option<&YamlNode>, start: Position, text: &str) -> Diagnostic {
    let found = document.and_then(|document| by_value_or_path(document, text));
    let finding = plain(found.unwrap_or(start), text);
    match Advice::of(text, document.and_then(machine_kind)) {
        Some(advice) => finding.help(&advice.help),
        None => finding,
    }
}

/// Returns the position of a value that a text quotes, or of a path in its words.
fn by_value_or_path(document: &YamlNode, text: &str) -> Option<Position> {
    let mut found = None;
    // "deny does not belong to DefaultAction values" quotes without marks.
    let unmarked = text.split_once(" does not belong to").map(|(value, _)| value);
    for value in quoted(text).chain(unmarked).filter(|value| !value.is_empty()) {
        nodes(document, String::new(), &mut |_, node| {
            if found.is_none() && node.text() == Some(value) {
                found = Some(node.position);
            }
        });
    }
    found.or_else(|| {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || ".[]".contains(c)));
        let paths = words.map(|word| word.trim_matches('.')).filter(|word| word.contains('.'));
        let rooted = paths.flat_map(|path| {
            ["", "machine.", "cluster.", "machine.network."].map(|root| format!("{root}{path}"))
        });
        let mut rooted = rooted.flat_map(|path| places(document, &path));
        rooted.next().map(|(_, position)| position)
    })
}

fn nodes<'a>(node: &'a YamlNode, path: String, look: &mut dyn FnMut(&str, &'a YamlNode)) {
    look(&path, node);
    for entry in node.entries() {
        nodes(&entry.node, joined(&path, &entry.key), look);
    }
    for (index, item) in node.items().iter().enumerate() {
        nodes(item, format!("{path}[{index}]"), look);
    }
}

fn plain(position: Position, text: &str) -> Diagnostic {
    Diagnostic::at(&position, format!("Talos says \"{}\"", shown(text))).rule(REFUSED)
}

/// A text of the library on one line. It may quote the file.
fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = line.chars().filter(|c| !c.is_control()).take(QUOTATION_LIMIT).collect();
    if shown.chars().count() < line.chars().count() {
        shown.push('…');
    }
    lab_model::redact(&shown)
}
