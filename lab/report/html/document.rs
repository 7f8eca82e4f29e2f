//! What all pages have in common: one file that loads nothing, with the styles and at most one script in it.

use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("style.css");

/// A page. Its content security policy lets it load nothing and run only this script.
pub(super) fn document(title: &str, script: Option<&str>, body: &Markup) -> String {
    let may_run = script.map_or_else(
        || "'none'".to_owned(),
        |script| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script))),
    );
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src {may_run}; img-src data:; base-uri 'none'; form-action 'none'"
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                @if let Some(script) = script { script { (PreEscaped(script)) } }
            }
        }
    };
    page.into_string()
}

/// Encodes a path as a relative URL, so that no character of a file name has a special meaning.
pub(super) fn address(path: &str) -> String {
    let mut out = String::from("./");
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_is_no_address_of_something_else() {
        assert_eq!(address("nodes/cp-1/console.log"), "./nodes/cp-1/console.log");
        assert_eq!(address("javascript:alert(1)"), "./javascript%3Aalert%281%29");
        assert_eq!(address("a b?c#ü"), "./a%20b%3Fc%23%C3%BC");
    }

    #[test]
    fn the_style_cannot_end_its_element_and_loads_nothing() {
        assert!(!STYLE.contains("</") && !STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
