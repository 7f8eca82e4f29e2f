//! A YAML tree with the position of every key and value.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::diagnostic::Position;

/// A limit above the node count of any machine config. It prevents memory exhaustion by nested aliases.
const NODES_LIMIT: usize = 200_000;

/// The deepest nesting of values. No machine config is deeper than 20, and what walks over values is recursive.
const DEEPEST: usize = 100;

/// A value with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlNode {
    /// The start position.
    pub position: Position,
    pub value: YamlValue,
}

/// The content of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum YamlValue {
    /// A string, number, boolean or null.
    Scalar {
        /// The text of the scalar, with escapes resolved.
        text: String,
        /// True if the scalar has no quotes, so it may be a number, boolean or null.
        plain: bool,
        /// True if the scalar uses block style, as file contents do.
        block: bool,
    },
    List(Vec<YamlNode>),
    /// A mapping, in file order.
    Map(Vec<YamlEntry>),
}

/// One `key: value` entry of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlEntry {
    pub key: String,
    pub position: Position,
    pub node: YamlNode,
}

impl YamlNode {
    /// Returns the value at a path of keys. Returns `None` if a key is missing or its value is null.
    pub fn get(&self, path: &[&str]) -> Option<&YamlNode> {
        let found = path.iter().try_fold(self, |node, key| {
            node.entries().iter().find(|entry| entry.key == *key).map(|entry| &entry.node)
        })?;
        (!found.is_nothing()).then_some(found)
    }

    /// Returns the text of the scalar at a path of keys.
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.get(path)?.text()
    }

    /// Returns the text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            YamlValue::Scalar { text, .. } => Some(text),
            YamlValue::List(_) | YamlValue::Map(_) => None,
        }
    }

    /// Returns the document kind. The main machine config has no kind.
    pub fn kind(&self) -> Option<&str> {
        self.text_at(&["kind"])
    }

    /// Returns the items of the list at a path of keys, or an empty slice if there is no list.
    pub fn items_at(&self, path: &[&str]) -> &[YamlNode] {
        self.get(path).map_or(&[], YamlNode::items)
    }

    /// Returns the entries of the mapping at a path of keys, or an empty slice if there is no mapping.
    pub fn entries_at(&self, path: &[&str]) -> &[YamlEntry] {
        self.get(path).map_or(&[], YamlNode::entries)
    }

    /// Returns the entries of a mapping, or an empty slice for other values.
    pub fn entries(&self) -> &[YamlEntry] {
        match &self.value {
            YamlValue::Map(entries) => entries,
            YamlValue::List(_) | YamlValue::Scalar { .. } => &[],
        }
    }

    /// Returns the items of a list, or an empty slice for other values.
    pub fn items(&self) -> &[YamlNode] {
        match &self.value {
            YamlValue::List(items) => items,
            YamlValue::Map(_) | YamlValue::Scalar { .. } => &[],
        }
    }

    /// Reports whether the value is true, according to the YAML parser that Talos uses (Go yaml.v3,
    /// `resolve.go`).
    pub fn is_true(&self) -> bool {
        matches!(&self.value, YamlValue::Scalar { text, plain: true, .. }
            if matches!(text.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "y"))
    }

    /// Reports whether the value is null.
    pub fn is_nothing(&self) -> bool {
        matches!(&self.value, YamlValue::Scalar { text, plain: true, .. } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Calls `look` with every nested scalar and its path.
    pub fn each_scalar<'a>(&'a self, look: &mut dyn FnMut(&str, &'a YamlNode)) {
        self.walk(&mut String::new(), look);
    }

    fn walk<'a>(&'a self, path: &mut String, look: &mut dyn FnMut(&str, &'a YamlNode)) {
        let length = path.len();
        match &self.value {
            YamlValue::Scalar { .. } => look(path, self),
            YamlValue::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{index}]"));
                    item.walk(path, look);
                    path.truncate(length);
                }
            }
            YamlValue::Map(entries) => {
                for entry in entries {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&entry.key);
                    entry.node.walk(path, look);
                    path.truncate(length);
                }
            }
        }
    }
}

/// A YAML syntax error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    pub position: Position,
    pub message: String,
}

impl YamlError {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self { position: start(span), message: message.into() }
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        let marker = error.marker();
        let position = Position { line: marker.line(), column: marker.col() + 1 };
        let text = error.to_string();
        // The diagnostic already contains the position.
        let message = text.split(" at line ").next().unwrap_or_default().to_owned();
        // The scanner has a limit of its own, and looks ahead.
        let message = if message.contains("recursion limit") { too_deep_message() } else { message };
        Self { position, message }
    }
}

/// Checks the size and the nesting of YAML text, before a parser that has no such limits reads it. Some parsers
/// take quadratic time for deep nesting.
///
/// # Errors
/// The exceeded limit or the syntax error, without any text of the file.
pub fn within_limits(text: &str, bytes: usize) -> Result<(), YamlError> {
    let nowhere = Position { line: 1, column: 1 };
    if text.len() > bytes {
        let message = format!("it has more than {bytes} bytes; no file of its kind is that large");
        return Err(YamlError { position: nowhere, message });
    }
    let (mut depth, mut values) = (0_usize, 0);
    for next in Parser::new_from_str(text) {
        let (event, span) = next?;
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        values += 1;
        if depth > DEEPEST {
            return Err(too_deep(span));
        }
        if values > 4 * NODES_LIMIT {
            return Err(YamlError::new(span, "it has too many values; no file of its kind has so many"));
        }
    }
    Ok(())
}

fn too_deep(span: Span) -> YamlError {
    YamlError::new(span, too_deep_message())
}

fn too_deep_message() -> String {
    format!("values are nested deeper than {DEEPEST} levels; no file of its kind is")
}

/// Parses the documents of a YAML stream. Omits empty documents, for example before a leading `---`.
pub fn documents(text: &str) -> Result<Vec<YamlNode>, YamlError> {
    let mut builder = Builder::default();
    for next in Parser::new_from_str(text) {
        let (event, span) = next?;
        builder.take(event, span)?;
    }
    Ok(builder.documents)
}

fn start(span: Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

/// An incomplete collection.
struct Open {
    node: YamlNode,
    anchor: usize,
    /// The key that waits for its value.
    key: Option<(String, Position)>,
}

#[derive(Default)]
struct Builder {
    documents: Vec<YamlNode>,
    open: Vec<Open>,
    anchors: HashMap<usize, YamlNode>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let position = start(span);
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let value = YamlValue::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                    block: matches!(style, ScalarStyle::Literal | ScalarStyle::Folded),
                };
                self.complete(YamlNode { position, value }, anchor, span)
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if self.open.len() == DEEPEST => {
                Err(too_deep(span))
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(YamlValue::List(Vec::new()), anchor, position);
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                self.begin(YamlValue::Map(Vec::new()), anchor, position);
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.complete(open.node, open.anchor, span),
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(YamlError::new(span, "an alias of a value that contains it"));
                };
                self.nodes += size(node);
                self.within_limit(span)?;
                let node = node.clone();
                self.complete(node, 0, span)
            }
            Event::UnresolvedAlias(name) => {
                Err(YamlError::new(span, format!("the alias *{name} has no anchor &{name}")))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, value: YamlValue, anchor: usize, position: Position) {
        self.open.push(Open { node: YamlNode { position, value }, anchor, key: None });
    }

    fn within_limit(&self, span: Span) -> Result<(), YamlError> {
        if self.nodes <= NODES_LIMIT {
            return Ok(());
        }
        Err(YamlError::new(span, format!("more than {NODES_LIMIT} values; no machine config has so many")))
    }

    fn complete(&mut self, node: YamlNode, anchor: usize, span: Span) -> Result<(), YamlError> {
        self.nodes += 1;
        self.within_limit(span)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            if !node.is_nothing() {
                self.documents.push(node);
            }
            return Ok(());
        };
        match &mut open.node.value {
            YamlValue::List(items) => items.push(node),
            YamlValue::Map(entries) => match (open.key.take(), node) {
                (Some((key, position)), node) => {
                    if entries.iter().any(|entry| entry.key == key) {
                        let message = format!("the key \"{key}\" is given twice in one mapping");
                        return Err(YamlError { position, message });
                    }
                    entries.push(YamlEntry { key, position, node });
                }
                (None, YamlNode { position, value: YamlValue::Scalar { text, .. } }) => {
                    open.key = Some((text, position))
                }
                (None, _) => return Err(YamlError::new(span, "a key that is not a text")),
            },
            YamlValue::Scalar { .. } => {}
        }
        Ok(())
    }
}

/// Counts the values in a value, including the value itself.
fn size(node: &YamlNode) -> usize {
    match &node.value {
        YamlValue::Scalar { .. } => 1,
        YamlValue::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        YamlValue::Map(entries) => 1 + entries.iter().map(|entry| size(&entry.node)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn only(text: &str) -> YamlNode {
        let mut documents = documents(text).expect("YAML");
        assert_eq!(documents.len(), 1);
        documents.remove(0)
    }

    #[test]
    fn keys_and_values_know_their_places() {
        let root = only("machine:\n  kubelet:\n    image: x\n");
        let kubelet = &root.get(&["machine"]).expect("machine").entries()[0];
        assert_eq!((kubelet.key.as_str(), kubelet.position), ("kubelet", Position { line: 2, column: 3 }));
        assert_eq!(kubelet.node.get(&["image"]).expect("image").position, Position { line: 3, column: 12 });
    }

    #[test]
    fn a_stream_has_several_documents_and_empty_ones_do_not_count() {
        assert_eq!(documents("# comment\n---\na: 1\n---\n---\nb: 2\n").expect("YAML").len(), 2);
    }

    #[test]
    fn quoted_text_is_neither_nothing_nor_true() {
        let root = only("a: \"true\"\nb: yes\nc:\nd: \"\"\n");
        assert!(!root.get(&["a"]).expect("a").is_true());
        assert!(root.get(&["b"]).expect("b").is_true());
        assert_eq!(root.get(&["c"]), None);
        assert_eq!(root.text_at(&["d"]), Some(""));
    }

    #[test]
    fn aliases_stand_for_their_values() {
        let root = only("a: &x { b: 1 }\nc: *x\n");
        assert_eq!(root.text_at(&["c", "b"]), Some("1"));
    }

    #[test]
    fn a_key_given_twice_is_an_error_with_the_place_of_the_second() {
        let error = documents("a: 1\nb: 2\na: 3\n").expect_err("twice");
        assert_eq!(error.position, Position { line: 3, column: 1 });
    }

    #[test]
    fn deep_nesting_is_refused_at_once() {
        let begun = std::time::Instant::now();
        for text in ["[".repeat(3 << 20), "{a: ".repeat(1 << 20), "- ".repeat(1 << 20)] {
            let nested = within_limits(&text, 8 << 20).expect_err("deep").message;
            assert!(nested.starts_with("values are nested deeper than 100 levels"), "{nested}");
            assert_eq!(documents(&text).expect_err("deep").message, nested);
        }
        assert!(within_limits("a: b", 3).expect_err("long").message.starts_with("it has more than 3 bytes"));
        assert!(within_limits("a: [b, {c: d}]", 20).is_ok());
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn aliases_of_aliases_do_not_fill_the_memory() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert!(documents(&text).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_tree_or_an_error_with_a_place(text in "[a-z:&*\\[\\]{}\\-\"' \n|>#0-9]{0,200}") {
            if let Err(error) = documents(&text) {
                prop_assert!(error.position.line <= text.lines().count() + 2);
            }
        }
    }
}
