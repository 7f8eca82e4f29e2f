//! Alternative repository names of published images. The lab only suggests these names in messages. It
//! never substitutes them for the requested name.

use oci_client::Reference;

/// Repository pairs with the same images: the prefix and suffix around the variant name.
const SAME: [[(&str, &str); 2]; 1] =
    [[("urmanac/talos-cozystack-", "/talos"), ("urmanac/cozystack-assets/talos/cozystack-", "/talos")]];

/// Returns the alternative references for the image of `reference`.
pub fn others(reference: &Reference) -> Vec<Reference> {
    let mut found = Vec::new();
    for names in &SAME {
        let variant = names.iter().find_map(|(start, end)| {
            reference.repository().strip_prefix(start)?.strip_suffix(end).filter(|rest| !rest.contains('/'))
        });
        let Some(variant) = variant else { continue };
        let repositories = names.iter().map(|(start, end)| format!("{start}{variant}{end}"));
        for repository in repositories.filter(|repository| repository != reference.repository()) {
            let registry = reference.registry().to_owned();
            found.push(match (reference.tag(), reference.digest()) {
                (_, Some(digest)) => Reference::with_digest(registry, repository, digest.to_owned()),
                (tag, None) => Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned()),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_and_a_new_one_lead_to_each_other() {
        let new = "ghcr.io/urmanac/cozystack-assets/talos/cozystack-spin-only/talos:v1.12.7";
        let old = "ghcr.io/urmanac/talos-cozystack-spin-only/talos:v1.12.7";
        let names = |text: &str| -> Vec<_> {
            others(&text.parse().expect("reference")).iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(new), [old]);
        assert_eq!(names(old), [new]);
        assert!(names("ghcr.io/other/talos:v1").is_empty());
    }
}
