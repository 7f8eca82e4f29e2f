//! Every container image is for arm64, by its index, its manifest and its config.

use super::{Looked, Rule};
use crate::evidence::{Evidence, FailureKind};

pub(super) const RULE: Rule = Rule {
    name: "container-platform",
    holds: "every container image has an arm64 image whose config says linux/arm64",
    subjects: "container images",
    look,
};

const REMEDY: &str = "build and push the image for linux/arm64";

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for container in &evidence.containers {
        match &container.facts {
            Err(failure) if failure.kind == FailureKind::Platform => {
                looked.at_one();
                looked.error(&container.source, &failure.cause, REMEDY);
            }
            Err(_) => {}
            Ok(facts) => {
                looked.at_one();
                let image = &facts.image;
                if !image.is_image() || image.is_wasm() {
                    continue;
                }
                let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".to_owned());
                let says = (text(&image.architecture), text(&image.os));
                if says != ("arm64".to_owned(), "linux".to_owned()) {
                    let via =
                        if image.platforms.is_empty() { "" } else { ", although the index says linux/arm64" };
                    let cause = format!("its config says {}/{}{via}", says.1, says.0);
                    looked.error(&container.source, cause, REMEDY);
                }
            }
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evidence::Failure, rules::fixture};

    #[test]
    fn an_arm64_image_passes_and_one_whose_config_says_amd64_does_not() {
        let mut evidence = fixture::evidence(Vec::new());
        evidence.containers.push(fixture::container("good", &["/app"], &[("app", 183)]));
        assert_eq!((look(&evidence).subjects, fixture::found(&RULE, &evidence).len()), (1, 0));
        let facts = evidence.containers[0].facts.as_mut().expect("facts");
        facts.image.architecture = Some("amd64".into());
        facts.image.platforms = vec!["linux/arm64".into()];
        let expected = "good: its config says linux/amd64, although the index says linux/arm64";
        assert_eq!(fixture::found(&RULE, &evidence), [expected]);
    }

    #[test]
    fn an_index_without_arm64_is_an_error() {
        let mut evidence = fixture::evidence(Vec::new());
        let mut container = fixture::container("api", &[], &[]);
        let cause = "api has no image for linux/arm64, only for: linux/amd64".to_owned();
        container.facts = Err(Failure { kind: FailureKind::Platform, cause });
        evidence.containers.push(container);
        let expected = "api: api has no image for linux/arm64, only for: linux/amd64";
        assert_eq!(fixture::found(&RULE, &evidence), [expected]);
    }
}
