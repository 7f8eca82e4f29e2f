//! No text of the release has a placeholder that nobody filled.

use super::{Looked, Rule};
use crate::evidence::{Evidence, Mentioned};

pub(super) const RULE: Rule = Rule {
    name: "placeholders",
    holds: "no document or manifest has an unfilled placeholder",
    subjects: "texts",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for text in &evidence.texts {
        let Ok(mentions) = &text.mentions else { continue };
        looked.at_one();
        for mention in mentions {
            match &mention.what {
                Mentioned::Placeholder(what) => {
                    let cause = format!("the placeholder {what} is not filled");
                    looked.error_at(
                        &text.file,
                        mention.position,
                        cause,
                        "write the digest or tag of the release",
                    );
                }
                Mentioned::MissingFile(what) => {
                    let cause =
                        format!("reads {what}, which the package does not have: its image has no tag");
                    looked.error_at(&text.file, mention.position, cause, "package the file with the chart");
                }
                Mentioned::Unresolved(what) if text.is_manifest => {
                    let cause = format!("the image {what} depends on values that the gate does not know");
                    let remedy = "name the rendered manifest, or the reference in containers.images";
                    looked.warning_at(&text.file, mention.position, cause, remedy);
                }
                _ => {}
            }
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fixture;

    fn found(text: &str) -> Vec<String> {
        let mut evidence = fixture::evidence(Vec::new());
        evidence.texts.push(fixture::document("INSTALL.md", text));
        fixture::found(&RULE, &evidence)
    }

    #[test]
    fn a_filled_document_passes() {
        let digest = "a".repeat(64);
        assert_eq!(found(&format!("ghcr.io/you/talos:v1@sha256:{digest}\nprose about IMAGE files")), [""; 0]);
    }

    #[test]
    fn an_unfilled_digest_is_told_with_its_line() {
        let found = found(
            "install\n  ghcr.io/you/talos:v1@IMAGE_DIGEST_COMPUTE\n  ghcr.io/you/talos@sha256:<digest>\n",
        );
        let expected = [
            "INSTALL.md:2:24: the placeholder IMAGE_DIGEST_COMPUTE is not filled",
            "INSTALL.md:3:21: the placeholder sha256:<digest> is not filled",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_image_of_a_template_is_told_for_manifests_alone() {
        let mut evidence = fixture::evidence(Vec::new());
        evidence.texts.push(fixture::manifest("deployment.yaml", "image: \"{{ .Values.image }}\"\n"));
        let found = fixture::found(&RULE, &evidence);
        assert_eq!(
            found,
            [
                "deployment.yaml:1:8: the image {{ .Values.image }} depends on values that the gate does not know"
            ]
        );
    }
}
