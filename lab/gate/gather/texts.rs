//! Reads documents, manifests and the files of OCI artefacts.

use std::path::Path;

use lab_model::{Position, files::read_text_bounded};
use lab_oci::containers::artefact_texts;

use super::{
    mentions::mentions,
    yaml_references::{LARGEST, manifest_mentions},
};
use crate::{
    evidence::{Mention, Mentioned, TextEvidence},
    gate::GateOptions,
    release::{ListedFile, Release},
};

pub(super) async fn texts(
    release: &Release,
    options: &GateOptions<'_>,
    tell: &dyn Fn(String),
) -> Vec<TextEvidence> {
    let mut found = Vec::new();
    for file in &release.documents {
        found.push(one(release, file, false, &|_, text| mentions(text)));
    }
    for file in &release.manifests {
        found.push(one(release, file, true, &manifest_mentions));
    }
    for (package, _) in &release.packages {
        tell(format!("package {package}"));
        match artefact_texts(package, options.looker).await {
            Ok(texts) if texts.is_empty() => found.push(TextEvidence {
                file: package.to_string(),
                is_manifest: true,
                mentions: Err("the artefact has no YAML, JSON or .tag file".to_owned()),
            }),
            Ok(texts) => found.extend(texts.iter().map(|(path, text)| {
                let mut mentions = manifest_mentions(path, text);
                mentions.extend(missing_files(path, text, &texts));
                TextEvidence { mentions: Ok(mentions), file: format!("{package} {path}"), is_manifest: true }
            })),
            Err(error) => found.push(TextEvidence {
                file: package.to_string(),
                is_manifest: true,
                mentions: Err(error.to_string()),
            }),
        }
    }
    found
}

/// The files that a template reads (Helm, `.Files.Get`) and that its chart does not have. Charts keep references of images
/// in files that end with `.tag`.
fn missing_files(path: &str, text: &str, all: &[(String, String)]) -> Vec<Mention> {
    let Some((chart, _)) = path.rsplit_once("/templates/") else { return Vec::new() };
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (at, get) in line.match_indices(".Files.Get ") {
            let rest = &line[at + get.len()..];
            let name = rest
                .trim_start()
                .strip_prefix('"')
                .and_then(|rest| rest.split_once('"'))
                .map(|(name, _)| name);
            let Some(name) = name.filter(|name| name.ends_with(".tag")) else { continue };
            if !all.iter().any(|(other, _)| *other == format!("{chart}/{name}")) {
                let position = Position { line: number, column: line[..at].chars().count() + 1 };
                found.push(Mention { position, what: Mentioned::MissingFile(name.to_owned()) });
            }
        }
    }
    found
}

fn one(
    release: &Release,
    file: &ListedFile,
    is_manifest: bool,
    read: &dyn Fn(&str, &str) -> Vec<Mention>,
) -> TextEvidence {
    let name = file.path.display().to_string();
    let text = text_of(&release.directory.join(&file.path));
    TextEvidence { mentions: text.map(|text| read(&name, &text)), file: name, is_manifest }
}

fn text_of(path: &Path) -> Result<String, String> {
    read_text_bounded(path, LARGEST as u64).map_err(|error| format!("it cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_file_that_a_chart_lost_is_told() {
        let template = "image: {{ .Files.Get \"images/api.tag\" | trim }}\n";
        let files = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| ((*name).to_owned(), String::new())).collect()
        };
        let path = "packages/api/templates/deployment.yaml";
        let missing = missing_files(path, template, &files(&[path]));
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].what, Mentioned::MissingFile("images/api.tag".into()));
        assert!(missing_files(path, template, &files(&[path, "packages/api/images/api.tag"])).is_empty());
    }
}
