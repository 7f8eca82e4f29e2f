//! References, digests and placeholders in a text.

use std::sync::LazyLock;

use lab_model::{Digest, Position};
use regex::Regex;

use crate::evidence::{Mention, Mentioned};

/// The maximum number of mentions of one text.
const MOST: usize = 10_000;
/// The longest placeholder and reference that is kept, in bytes.
const LONGEST: usize = 512;

/// A name in a registry: a host with a dot, a port or the name localhost, and a path (OCI distribution specification
/// v1.1, "Pulling manifests").
const NAME: &str = r"(?:localhost|[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+)(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)+";
const TAG: &str = r":[A-Za-z0-9_][A-Za-z0-9._-]{0,127}";

static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let digest = r"@sha256:[0-9a-f]{64}";
    Regex::new(&format!(r"{NAME}(?:{TAG}(?:{digest})?|{digest})")).ok()
});
/// `IMAGE_DIGEST_COMPUTE`, `sha256:<digest>`, `sha256:TODO`, `<DIGEST>`, `sha256:xxxx…`, `sha256:...`.
static PLACEHOLDER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"IMAGE_(?:DIGEST|TAG)(?:_[A-Z0-9_]+)?|sha256:(?:<[^>\n]{1,64}>|\.{3}|…|[xX]{3,}|0{64}|[A-Z][A-Z_]{2,})|<[A-Za-z_ -]{0,40}(?:DIGEST|digest)[A-Za-z_ -]{0,40}>",
    )
    .ok()
});
static DIGEST: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"sha256:[0-9a-f]{64}").ok());

/// Finds what a text mentions, in its order.
pub fn mentions(text: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut taken: Vec<std::ops::Range<usize>> = Vec::new();
        let mut add = |range: std::ops::Range<usize>, what: Mentioned| {
            if taken.iter().any(|other| other.start < range.end && range.start < other.end) {
                return;
            }
            let column = line[..range.start].chars().count() + 1;
            taken.push(range);
            found.push(Mention { position: Position { line: number, column }, what });
        };
        for found in matches(&PLACEHOLDER, line) {
            add(found.range(), Mentioned::Placeholder(found.as_str().to_owned()));
        }
        for found in matches(&REFERENCE, line) {
            // A URL is no reference, and neither is an address in a list of hosts.
            let before = &line[..found.start()];
            let follows = line[found.end()..].chars().next();
            let is_part = before.ends_with(['/', '@', '-', '_', '.', '$', '}'])
                || before.chars().next_back().is_some_and(char::is_alphanumeric)
                || follows.is_some_and(|next| ['/', '{', '$'].contains(&next));
            let is_port = found.as_str().rsplit(':').next().is_some_and(|tag| tag.is_empty());
            if !is_part && !is_port && found.len() <= LONGEST {
                add(
                    found.range(),
                    Mentioned::Reference(found.as_str().trim_end_matches(['.', '-']).to_owned()),
                );
            }
        }
        for found in matches(&DIGEST, line) {
            if let Some(digest) = Digest::parse(found.as_str()) {
                add(found.range(), Mentioned::Digest(digest));
            }
        }
        if found.len() >= MOST {
            break;
        }
    }
    found.truncate(MOST);
    found.sort_by_key(|mention| mention.position);
    found
}

fn matches<'a>(pattern: &'static LazyLock<Option<Regex>>, line: &'a str) -> Vec<regex::Match<'a>> {
    pattern.as_ref().map(|pattern| pattern.find_iter(line).take(MOST).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(text: &str) -> Vec<String> {
        let line = |mention: Mention| {
            format!("{}:{} {:?}", mention.position.line, mention.position.column, mention.what)
        };
        mentions(text).into_iter().map(line).collect()
    }

    #[test]
    fn references_digests_and_placeholders_have_their_places() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text = format!(
            "use `ghcr.io/you/talos:v1.5.1-1.13.5-4`, or\n  ghcr.io/you/talos@{digest}.\ndigest: {digest}\nset IMAGE_DIGEST_X and sha256:<digest>\n"
        );
        let expected = [
            "1:6 Reference(\"ghcr.io/you/talos:v1.5.1-1.13.5-4\")".to_owned(),
            format!("2:3 Reference(\"ghcr.io/you/talos@{digest}\")"),
            "3:9 Digest(sha256:aaaaaaaaaaaa…)".to_owned(),
            "4:5 Placeholder(\"IMAGE_DIGEST_X\")".to_owned(),
            "4:24 Placeholder(\"sha256:<digest>\")".to_owned(),
        ];
        assert_eq!(told(&text), expected);
    }

    #[test]
    fn a_sentence_ends_after_a_reference_and_urls_are_none() {
        assert_eq!(told("see ghcr.io/you/api:v1."), ["1:5 Reference(\"ghcr.io/you/api:v1\")"]);
        for text in [
            "https://github.com/you/api",
            "https://example.com:8080/a/b",
            "docs/a.md:12",
            "ghcr.io/you/{{ x }}:v1",
            "127.0.0.1:5000",
            "a.b/c/d",
        ] {
            assert_eq!(told(text), [""; 0], "{text}");
        }
        assert_eq!(told("127.0.0.1:5000/api:v1"), ["1:1 Reference(\"127.0.0.1:5000/api:v1\")"]);
    }

    proptest! {
        #[test]
        fn any_text_ends_without_a_panic(text in any::<String>()) {
            let _ = mentions(&text);
        }
    }
}
