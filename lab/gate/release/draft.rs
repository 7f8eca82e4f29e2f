//! A first release file, from the references of node images.

use lab_image::Inspection;
use lab_model::{Source, node::Role, reference::name_and_tag};

use super::tag::ReleaseTag;

/// A node image for a draft: its role, its source, and its content.
pub struct Drafted<'a> {
    pub role: &'a Role,
    pub source: &'a Source,
    pub inspection: &'a Inspection,
}

/// Writes a release file that names these node images and the extensions that they have. The author adds the rest.
pub fn draft(images: &[Drafted<'_>]) -> String {
    let tags = images.iter().filter_map(|image| {
        let source = image.source.to_string();
        name_and_tag(&source).map(|(_, tag)| tag.to_owned())
    });
    let tags: Vec<_> = tags.collect();
    let release = tags.iter().find_map(|tag| ReleaseTag::parse(tag)).map(|tag| tag.release().to_string());
    let release = release.or_else(|| tags.first().cloned()).unwrap_or_else(|| "v1".to_owned());
    let registry = images.iter().find_map(|image| match image.source {
        Source::Registry(reference) => {
            let path = reference.repository().split('/').next().unwrap_or_default();
            Some(format!("{}/{path}", reference.registry()))
        }
        Source::Path(_) => None,
    });
    let mut text = "# A release for `lab gate`. Every key is described in docs/release-gate.md.\n".to_owned();
    text += &format!("release: {}\n", quoted(&release));
    if let Some(registry) = registry {
        text += &format!("registry: {}\n", quoted(&registry));
    }
    text += "roles:\n";
    for image in images {
        let names = image.inspection.contents.extensions.iter().map(|extension| quoted(&extension.name));
        let names = names.collect::<Vec<_>>().join(", ");
        text += &format!("  {}: {{ extensions: [{names}] }}\n", image.role);
    }
    text += "nodes:\n";
    for image in images {
        text += &format!("  - {{ role: {}, image: {} }}\n", image.role, quoted(&image.source.to_string()));
    }
    text + "# containers:\n#   images: []       # references of the platform's container images\n#   manifests: []    # files that name them: rendered manifests, values of charts\n#   packages: []     # OCI artefacts with such files\n# documents: []      # texts that name digests and tags, e.g. ['README.md', 'docs/*.md']\n"
}

/// A text in YAML. Names from images may have any characters.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    let plain =
        !text.is_empty() && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_plain);
    if plain && !text.ends_with(':') {
        text.to_owned()
    } else {
        serde_json::to_string(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{release::Release, rules::fixture::Node};

    #[test]
    fn a_draft_is_a_release_file_with_the_extensions_of_the_images() {
        let nodes =
            [Node::new("compute"), Node::new("gateway").extension("name: 'tail: scale', version: v1", &[])]
                .map(Node::read);
        let sources =
            ["ghcr.io/you/talos/compute:v1.5.1-1.13.5-4", "ghcr.io/you/talos/gateway:v1.5.1-1.13.5-4"]
                .map(|source| Source::parse(source).expect("source"));
        let images: Vec<_> = nodes
            .iter()
            .zip(&sources)
            .map(|(node, source)| Drafted {
                role: &node.role,
                source,
                inspection: &node.facts.as_ref().expect("facts").inspection,
            })
            .collect();
        let text = draft(&images);
        let release = Release::parse("r.yaml", &text, Path::new("."), &[]).expect("a release file");
        assert_eq!(release.name, "v1.5.1-1.13.5-4");
        assert_eq!(release.registry.as_deref(), Some("ghcr.io/you"));
        let gateway = release.roles.values().nth(1).expect("gateway");
        assert_eq!(gateway.extensions.as_deref(), Some(&["tail: scale".to_owned()][..]));
        assert_eq!(release.nodes.len(), 2);
    }
}
