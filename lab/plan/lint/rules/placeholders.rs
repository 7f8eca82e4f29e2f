//! Placeholders that were not filled in.

use lab_model::{Diagnostic, Position, Severity, yaml::YamlValue};

use super::super::config_set::ConfigSet;

/// The rule for placeholders.
pub const RULE: &str = "placeholder";
const HELP: &str = "render the template, or set the variable, and check the result";

/// Keys whose values are the contents of files, where such text may be intended.
const CONTENTS: [&str; 2] = ["content", "contents"];
/// Keys below which programs other than Talos read the values, which may mean such text.
const PASSED_ON: [&str; 16] = [
    "annotations",
    "args",
    "auditPolicy",
    "baseRuntimeSpecOverrides",
    "configuration",
    "env",
    "environment",
    "extraArgs",
    "extraConfig",
    "extraKernelArgs",
    "headers",
    "manifests",
    "nodeAnnotations",
    "rules",
    "sysctls",
    "urls",
];
/// Variables that Talos itself fills in, in the kernel argument talos.config.
const OF_TALOS: [&str; 5] = ["${uuid}", "${serial}", "${mac}", "${hostname}", "${code}"];
/// The kernel argument with such variables.
const CONFIG_ARGUMENT: &str = "talos.config=";

/// Finds placeholders of shells and templates. They are errors in values that Talos itself reads, and warnings in
/// values that it passes on to other programs.
pub fn unexpanded(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for file in &set.files {
        for document in &file.documents {
            document.each_scalar(&mut |path, node| {
                let YamlValue::Scalar { text, block: false, .. } = &node.value else { return };
                let keys = || path.split(['.', '[']);
                if keys().next_back().is_some_and(|key| CONTENTS.contains(&key)) {
                    return;
                }
                let Some(mark) = mark(&without_those_of_talos(text)) else { return };
                let passed_on = keys().any(|key| PASSED_ON.contains(&key));
                findings.push(file.finding(
                    if passed_on { Severity::Warning } else { Severity::Error },
                    RULE,
                    node.position,
                    format!("{path} still contains the placeholder {mark}"),
                    HELP,
                ));
            });
        }
    }
}

/// Finds the mark of a template in a text that is not YAML because of it.
pub fn in_text(text: &str) -> Option<Diagnostic> {
    text.lines().enumerate().find_map(|(index, line)| {
        let code = if line.trim_start().starts_with('#') { "" } else { line };
        let (at, mark) = [("{{", "}}"), ("{%", "%}"), ("<%", "%>")].iter().find_map(|(begin, end)| {
            let at = code.find(begin)?;
            let length = code[at..].find(end)? + end.len();
            Some((at, &code[at..at + length]))
        })?;
        let position = Position { line: index + 1, column: code[..at].chars().count() + 1 };
        let shown: String = mark.chars().filter(|c| !c.is_control()).take(60).collect();
        let message = format!("the file is a template that was not rendered: it still contains {shown}");
        Some(Diagnostic::at(&position, message).rule(RULE).help(HELP))
    })
}

/// Returns whether a value is an unexpanded template, which other rules ignore.
pub fn is_template(text: &str) -> bool {
    mark(text).is_some()
}

fn without_those_of_talos(text: &str) -> String {
    let mut text = text.to_owned();
    if text.starts_with(CONFIG_ARGUMENT) {
        for variable in OF_TALOS {
            text = text.replace(variable, "");
        }
    }
    text
}

/// Returns the first placeholder in a text.
fn mark(text: &str) -> Option<String> {
    if let Some(mark) = whole_mark(text.trim()) {
        return Some(mark.to_owned());
    }
    for (begin, end) in [("${", "}"), ("{{", "}}"), ("<REPLACE", ">"), ("CHANGEME", "")] {
        if let Some(start) = text.find(begin) {
            let rest = &text[start..];
            let length = rest
                .find(end)
                .filter(|length| !end.is_empty() && *length < 60)
                .map_or(begin.len(), |at| at + end.len());
            return Some(rest[..length].to_owned());
        }
    }
    None
}

/// Returns a value that is a mark as a whole: `$NAME`, `__NAME__`, `<name>`.
fn whole_mark(text: &str) -> Option<&str> {
    let upper = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            && text.chars().any(|c| c.is_ascii_uppercase())
    };
    let words = |text: &str| {
        (2..=60).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || " _-".contains(c))
    };
    let between = |begin: &str, end: &str| text.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
    let found = text.strip_prefix('$').is_some_and(upper)
        || between("__", "__").is_some_and(|name| upper(name) && !name.starts_with('_'))
        || between("<", ">").is_some_and(words);
    found.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_from_words_that_look_like_them() {
        for text in ["${A}", "x-${A}", "{{ .Name }}", "$NODE_NAME", "__TOKEN__", "<dns-address>", "CHANGEME"]
        {
            assert!(mark(text).is_some(), "{text}");
        }
        for text in
            ["", "$", "a$b", "$argon2id$v=19$x", "__init__", "<", "<1>", "a < b > c", "pa$$word", "{a}"]
        {
            assert_eq!(mark(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_mark_outside_of_comments_is_told_with_its_place() {
        let found = in_text("# {{ comment }}\nmachine:\n  type: {{ .Type }}\n").expect("a mark");
        assert_eq!(found.position, Some(Position { line: 3, column: 9 }));
        assert!(found.message.ends_with("{{ .Type }}"), "{}", found.message);
        assert!(in_text("machine: [\n").is_none());
    }
}
