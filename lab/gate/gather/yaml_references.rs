//! Container images in manifests and in values of Helm charts.
//!
//! YAML is read as YAML: a text under the key `image`, a mapping with `repository` and `tag` or `digest` (Helm's
//! convention), and every other text that is a complete reference. What is not YAML, such as a template, is read as
//! text.

use lab_model::{
    Position,
    yaml::{self, YamlEntry, YamlNode},
};

use super::mentions::mentions;
use crate::evidence::{Mention, Mentioned};

/// The largest manifest, in bytes.
pub(super) const LARGEST: usize = 4 << 20;

/// Finds the images in a manifest.
pub fn manifest_mentions(file: &str, text: &str) -> Vec<Mention> {
    let is_yaml = [".yaml", ".yml", ".json"].iter().any(|ending| file.ends_with(ending));
    let documents = yaml::within_limits(text, LARGEST).and_then(|()| yaml::documents(text));
    match documents {
        Ok(documents) if is_yaml => {
            let mut found = Vec::new();
            documents.iter().for_each(|document| walk(document, &mut found));
            // Placeholders may be anywhere, also in comments.
            found.extend(
                mentions(text).into_iter().filter(|one| matches!(one.what, Mentioned::Placeholder(_))),
            );
            found.sort_by_key(|mention| mention.position);
            found.dedup();
            found
        }
        _ => mentions(text).into_iter().chain(templates(text)).collect(),
    }
}

fn walk(node: &YamlNode, found: &mut Vec<Mention>) {
    if let Some(mention) = composed(node) {
        found.push(mention);
    }
    for YamlEntry { key, node, .. } in node.entries() {
        match node.text() {
            Some(text) => found.extend(of_text(key, text, node.position)),
            None => walk(node, found),
        }
    }
    for item in node.items() {
        match item.text() {
            Some(text) => found.extend(of_text("", text, item.position)),
            None => walk(item, found),
        }
    }
}

/// A text that is a reference, or that should be one.
fn of_text(key: &str, text: &str, position: Position) -> Option<Mention> {
    let is_whole =
        |mention: &Mention| matches!(&mention.what, Mentioned::Reference(reference) if reference == text);
    let what = if let Some(mention) = mentions(text).into_iter().find(is_whole) {
        mention.what
    } else if key == "image" && !text.trim().is_empty() && !text.contains("IMAGE_") {
        Mentioned::Unresolved(text.to_owned())
    } else {
        return None;
    };
    Some(Mention { position, what })
}

/// A mapping with the parts of a reference.
fn composed(node: &YamlNode) -> Option<Mention> {
    let part = |name: &str| node.text_at(&[name]).map(str::trim).filter(|text| !text.is_empty());
    let repository = part("repository").filter(|repository| !repository.contains("://"))?;
    let position = node.get(&["repository"])?.position;
    let name = match part("registry") {
        Some(registry) => format!("{}/{repository}", registry.trim_end_matches('/')),
        None => repository.to_owned(),
    };
    let tag = part("tag").map(|tag| match tag.starts_with("sha256:") {
        true => format!("@{tag}"),
        false => format!(":{tag}"),
    });
    let digest = part("digest").map(|digest| format!("@{digest}"));
    // Without a tag and a digest, the mapping is no image, or its chart fills the tag.
    let reference = match (&tag, &digest) {
        (None, None) if !name.contains('/') => return None,
        (None, None) => {
            return Some(Mention { position, what: Mentioned::Unresolved(format!("{name} without a tag")) });
        }
        (Some(tag), Some(digest)) if !tag.contains('@') => format!("{name}{tag}{digest}"),
        (Some(tag), _) => format!("{name}{tag}"),
        (None, Some(digest)) => format!("{name}{digest}"),
    };
    let whole = mentions(&reference).into_iter().next();
    let what =
        whole.map(|mention| mention.what).filter(|what| *what == Mentioned::Reference(reference.clone()));
    Some(Mention { position, what: what.unwrap_or(Mentioned::Unresolved(reference)) })
}

/// Lines `image: …` of a template whose image is no plain reference.
fn templates(text: &str) -> Vec<Mention> {
    let of_line = |(number, line): (usize, &str)| {
        let trimmed = line.trim_start().trim_start_matches("- ");
        let value = trimmed.strip_prefix("image:")?.trim().trim_matches(['"', '\'']);
        let column = line.find("image:")? + 1;
        let position = Position { line: number, column };
        value.contains("{{").then(|| Mention { position, what: Mentioned::Unresolved(value.to_owned()) })
    };
    (1..).zip(text.lines()).filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(text: &str) -> Vec<String> {
        let line = |mention: Mention| format!("{}: {:?}", mention.position.line, mention.what);
        manifest_mentions("values.yaml", text).into_iter().map(line).collect()
    }

    #[test]
    fn images_of_manifests_and_values_are_found_in_every_document() {
        let digest = "sha256:".to_owned() + &"a".repeat(64);
        let text = format!(
            "spec: {{ containers: [{{ image: ghcr.io/you/api:v1 }}] }}\n---\nimage:\n  registry: ghcr.io\n  repository: you/web\n  tag: v2\n  digest: {digest}\nsidecar: ghcr.io/you/side:v3\nother: {{ repository: https://charts.example.com/x, tag: v1 }}\n"
        );
        let expected = [
            "1: Reference(\"ghcr.io/you/api:v1\")".to_owned(),
            format!("5: Reference(\"ghcr.io/you/web:v2@{digest}\")"),
            "8: Reference(\"ghcr.io/you/side:v3\")".to_owned(),
        ];
        assert_eq!(told(&text), expected);
    }

    #[test]
    fn what_cannot_be_resolved_is_said() {
        assert_eq!(told("image: \"{{ .Values.image }}\"\n"), ["1: Unresolved(\"{{ .Values.image }}\")"]);
        assert_eq!(
            told("image: { repository: ghcr.io/you/api }\n"),
            ["1: Unresolved(\"ghcr.io/you/api without a tag\")"]
        );
        let template = "{{- if .x }}\n  - image: \"{{ .Values.a }}:v1\"\n    image: ghcr.io/you/api:v1\n";
        let told = told(template);
        assert_eq!(told, ["3: Reference(\"ghcr.io/you/api:v1\")", "2: Unresolved(\"{{ .Values.a }}:v1\")"]);
    }

    proptest! {
        #[test]
        fn any_text_ends_without_a_panic(text in "(image|repository|tag|[-:{}\\[\\]&*!|> \n@]|[a-z])*") {
            let _ = manifest_mentions("a.yaml", &text);
        }
    }
}
