//! Minimal edits of a user's config. Lines with the same meaning stay unchanged, including comments,
//! order and spelling.
//!
//! In block style, the text is edited entry by entry. An entry in flow style is replaced as a whole. The
//! result is parsed again and must match the wanted documents; otherwise the edit is discarded.

use lab_model::yaml::YamlNode;
use serde_json::{Map, Value};

use super::documents::{Identity, parse};
use crate::user_config::UserConfig;

/// A replacement of a range of lines.
struct Edit {
    from: usize,
    to: usize,
    lines: Vec<String>,
}

struct Editor<'a> {
    lines: &'a [&'a str],
    edits: Vec<Edit>,
}

/// Edits the text of `file` so that its documents equal `wanted`. Returns `None` if line edits cannot
/// achieve this.
pub(super) fn rewritten(file: &UserConfig, wanted: &[Value]) -> Option<String> {
    let text = file.text();
    let before = said(text)?;
    if before == wanted {
        return Some(text.to_owned());
    }
    let trees = &file.documents;
    if trees.len() != before.len() {
        return None;
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut editor = Editor { lines: &lines, edits: Vec::new() };
    let twin = |one: &Value, others: &[Value]| -> Option<Value> {
        others.iter().find(|other| Identity::of(other) == Identity::of(one)).cloned()
    };
    for (index, (tree, document)) in trees.iter().zip(&before).enumerate() {
        let end = trees.get(index + 1).map_or(lines.len(), |next| next.position.line - 1);
        let start = tree.position.line - 1;
        let end = editor.content_end(start, end);
        match twin(document, wanted) {
            None => editor.remove_document(start, end),
            Some(after) if after == *document => {}
            Some(after) => {
                let (before, after) = (document.as_object()?, after);
                if !editor.map(tree, before, after.as_object()?, end) {
                    return None;
                }
            }
        }
    }
    let mut text = editor.finish();
    for document in wanted.iter().filter(|document| twin(document, &before).is_none()) {
        text.push_str("---\n");
        text.push_str(&serde_yaml::to_string(document).ok()?);
    }
    (said(&text)? == wanted).then_some(text)
}

/// Parses the documents of a text, without empty documents.
fn said(text: &str) -> Option<Vec<Value>> {
    Some(parse(text).ok()?.into_iter().filter(|document| !document.is_null()).collect())
}

impl Editor<'_> {
    /// Returns the end of the content that starts at a line, before `limit`. Trailing blank lines,
    /// comments and markers are excluded.
    fn content_end(&self, start: usize, limit: usize) -> usize {
        let idle = |line: &str| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
        };
        let mut end = limit.min(self.lines.len());
        while end > start + 1 && self.lines.get(end - 1).is_some_and(|line| idle(line)) {
            end -= 1;
        }
        end
    }

    fn remove_document(&mut self, start: usize, end: usize) {
        let mark = self.lines[..start].iter().rposition(|line| line.trim() == "---");
        self.edits.push(Edit { from: start, to: end, lines: Vec::new() });
        if let Some(mark) = mark {
            self.edits.push(Edit { from: mark, to: mark + 1, lines: Vec::new() });
        }
    }

    /// Edits a mapping that ends before the line `end`. Returns false if the mapping must be replaced as
    /// a whole.
    fn map(
        &mut self,
        node: &YamlNode,
        before: &Map<String, Value>,
        after: &Map<String, Value>,
        end: usize,
    ) -> bool {
        let entries = node.entries();
        let Some(column) = entries.first().map(|first| first.position.column) else { return false };
        let own_line = |line: usize| {
            let text = self.lines.get(line - 1).copied().unwrap_or_default();
            text.chars().take(column - 1).all(|c| c == ' ')
        };
        let mut lines = entries.iter().map(|entry| entry.position.line).collect::<Vec<_>>();
        let sound = entries.len() == before.len()
            && entries.iter().all(|entry| {
                entry.position.column == column
                    && own_line(entry.position.line)
                    && before.contains_key(&entry.key)
            })
            && lines.is_sorted_by(|a, b| a < b);
        if !sound || (after.is_empty() && !before.is_empty()) {
            return false;
        }
        lines.push(end + 1);
        let mut last = end;
        for (entry, next) in entries.iter().zip(&lines[1..]) {
            let from = entry.position.line - 1;
            let to = self.content_end(from, next - 1);
            last = to;
            let old = &before[&entry.key];
            let Some(new) = after.get(&entry.key) else {
                self.edits.push(Edit { from, to, lines: Vec::new() });
                continue;
            };
            if old == new {
                continue;
            }
            let inside = match (old.as_object(), new.as_object()) {
                (Some(old), Some(new)) => self.map(&entry.node, old, new, to),
                _ => false,
            };
            if !inside {
                self.edits.push(Edit { from, to, lines: written(&entry.key, new, column - 1) });
            }
        }
        for (key, value) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
            self.edits.push(Edit { from: last, to: last, lines: written(key, value, column - 1) });
        }
        true
    }

    fn finish(mut self) -> String {
        // The stable sort keeps the order of several insertions at one line.
        self.edits.sort_by_key(|edit| edit.from);
        let mut out: Vec<String> = Vec::new();
        let mut next = 0;
        for edit in self.edits {
            out.extend(self.lines[next..edit.from.max(next)].iter().map(|line| (*line).to_owned()));
            out.extend(edit.lines);
            next = edit.to.max(next);
        }
        out.extend(self.lines[next..].iter().map(|line| (*line).to_owned()));
        out.push(String::new());
        out.join("\n")
    }
}

/// Renders an entry as lines, indented by `indent` columns.
fn written(key: &str, value: &Value, indent: usize) -> Vec<String> {
    let entry: Map<String, Value> = [(key.to_owned(), value.clone())].into_iter().collect();
    let text = serde_yaml::to_string(&entry).unwrap_or_default();
    let indented = |line: &str| if line.is_empty() { String::new() } else { format!("{:indent$}{line}", "") };
    text.lines().map(indented).collect()
}

#[cfg(test)]
mod tests {
    use super::super::MachineConfig;

    const FILE: &str = "\
# rendered
version: v1alpha1 # the main document
machine:
    type: worker
    token: abcdef.0123456789abcdef
    network: {}
    # what is installed
    install:
        disk: /dev/sda # the first one
        wipe: off
    files:
        - path: /var/a
          permissions: 0o644
cluster:
    # who
    clusterName: \"mine\"
---
# a name
apiVersion: v1alpha1
kind: HostnameConfig
auto: stable
";

    fn patched(patches: &[&str]) -> String {
        let config = MachineConfig::as_written(FILE).expect("config");
        config.patch(patches.iter().copied()).expect("patch").to_yaml().expect("yaml")
    }

    #[test]
    fn what_nothing_changes_is_sent_byte_for_byte() {
        assert_eq!(patched(&[]), FILE);
        assert_eq!(patched(&["machine: {type: worker}"]), FILE);
    }

    #[test]
    fn only_the_lines_that_change_are_changed() {
        let patch = "machine: {install: {disk: /dev/vda}, network: {hostname: w-1}, time: {servers: [10.5.0.1]}}\n---\n\
                     {apiVersion: v1alpha1, kind: HostnameConfig, $patch: delete}\n---\n\
                     {apiVersion: v1alpha1, kind: ExtensionServiceConfig, name: x}\n";
        insta::assert_snapshot!(patched(&[patch, "cluster: {clusterName: {$patch: delete}, id: x}"]));
    }

    #[test]
    fn a_file_in_braces_is_rewritten_with_the_same_meaning() {
        let text = "{machine: {type: worker, sysctls: &s {a: '1'}}, cluster: {x: *s}}";
        let config = MachineConfig::as_written(text).expect("config");
        let changed = config.patch(["machine: {sysctls: {b: '2'}}"]).expect("patch");
        let read = MachineConfig::from_yaml(&changed.to_yaml().expect("yaml")).expect("read");
        assert_eq!(read.documents(), changed.documents());
    }

    proptest::proptest! {
        /// For any removal or merge, the sent text has the intended content.
        #[test]
        fn what_is_sent_says_what_was_meant(
            first in "[a-d]{1,2}", second in "[a-d]{1,2}", value in "[a-z0-9#: '-]{0,6}", blocks in 1..4usize,
        ) {
            let indent = " ".repeat(blocks);
            let text = format!("# x\n{first}:\n{indent}{second}: 1 # y\n\n{indent}# z\n{indent}zz: |\n{indent}  # in\n\n{indent}  b\n---\n");
            let config = MachineConfig::as_written(&text).expect("config");
            let patch = serde_json::json!({ first: { "zz": value, "new": [value] }, second: { "deep": { "er": value } } });
            let changed = config.patch([patch.to_string().as_str()]).expect("patch");
            let read = MachineConfig::from_yaml(&changed.to_yaml().expect("yaml")).expect("read");
            proptest::prop_assert_eq!(read.documents(), changed.documents());
        }
    }
}
