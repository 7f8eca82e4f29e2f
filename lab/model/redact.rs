//! Redaction of secrets. The lab redacts every text before it writes the text for users.

/// The replacement for a secret.
const MARK: &str = "[redacted]";

/// Keys with secret values in any file (machine configs, kubeconfigs, talosconfigs, extension
/// environments).
const SECRET_KEYS: [&str; 13] = [
    "token",
    "key",
    "secret",
    "secretboxEncryptionSecret",
    "aescbcEncryptionSecret",
    "bootstraptoken",
    "bootstrapToken",
    "secretboxencryptionsecret",
    "client-key-data",
    "password",
    "TS_AUTHKEY",
    "authorization",
    "Authorization",
];

/// Prefixes of secret words: auth keys, and the base64 of "-----BEGIN", which starts a certificate or a
/// private key in a config. The prefix does not distinguish certificates from keys.
const SECRET_STARTS: [&str; 3] = ["tskey-", "hskey-", "LS0tLS1CRUdJTi"];

/// Removes private keys, tokens, auth keys and the values of secret keys from `text`. The function works
/// line by line, so it also redacts excerpts. It is idempotent.
pub fn redact(text: &str) -> String {
    let mut out = Vec::new();
    let mut in_private_key = false;
    // The indentation of a secret key with a YAML block value on the following lines.
    let mut block = None;
    for line in text.split('\n') {
        if let Some(outer) = block {
            if line.trim().is_empty() || indentation(line) > outer {
                continue;
            }
            block = None;
        }
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY-----") {
            in_private_key = !line.contains("-----END");
            out.push(MARK.to_owned());
        } else if in_private_key {
            in_private_key = !line.contains("-----END");
        } else {
            if opens_secret_block(line) {
                block = Some(indentation(line));
            }
            out.push(redact_line(line));
        }
    }
    out.join("\n")
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-']).len()
}

/// Reports whether a line such as `token: |` starts a block with a secret value on the following lines.
fn opens_secret_block(line: &str) -> bool {
    let Some((key, value)) = line.trim_start_matches([' ', '-']).split_once(':') else { return false };
    let block = matches!(value.trim(), "|" | "|-" | "|+" | ">" | ">-" | ">+");
    block && SECRET_KEYS.contains(&key.trim_matches('"'))
}

fn redact_line(line: &str) -> String {
    let mut line = line.to_owned();
    for key in SECRET_KEYS {
        line = redact_key(&line, key);
    }
    let mut after_bearer = false;
    let words = line.split(' ').map(|word| {
        // "bearer token" is a phrase in error messages, not a secret.
        let phrase = word.trim_end_matches(|c: char| !c.is_alphanumeric()) == "token";
        let secret = after_bearer && !phrase && !word.is_empty();
        after_bearer = word.ends_with("Bearer") || word.ends_with("bearer");
        if secret { redact_credential(word) } else { redact_word(word) }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Redacts the credential after `Bearer`, up to the closing quote or bracket.
fn redact_credential(word: &str) -> String {
    let rest = word
        .strip_prefix(MARK)
        .unwrap_or_else(|| &word[word.find(|c: char| "\"'\\,;)}".contains(c)).unwrap_or(word.len())..]);
    format!("{MARK}{}", redact_word(rest))
}

/// Redacts the value after `key:`, `key=`, `"key":` or `--key `.
fn redact_key(line: &str, key: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(key) {
        let (before, from) = rest.split_at(at);
        let after = &from[key.len()..];
        let flag = before.ends_with("--");
        let in_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '.';
        let starts_word = flag || !before.ends_with(in_word);
        let unquoted = after.trim_start_matches('\\');
        let unquoted = unquoted.strip_prefix('"').unwrap_or(unquoted);
        let separated =
            unquoted.strip_prefix([':', '=']).or_else(|| unquoted.strip_prefix(' ').filter(|_| flag));
        let Some(value) = separated.filter(|_| starts_word) else {
            out.push_str(before);
            out.push_str(key);
            rest = after;
            continue;
        };
        // If a line contains only `key: value`, a plain YAML value may contain spaces and ends with the
        // line.
        let heads_line =
            after.starts_with(':') && out.is_empty() && before.trim_matches([' ', '-']).is_empty();
        let value = value.trim_start_matches(' ');
        let (open, end) = value_span(value, heads_line);
        out.push_str(before);
        out.push_str(&from[..from.len() - value.len() + open]);
        if value.starts_with(MARK) && !heads_line {
            // Do not redact a value twice.
            out.push_str(MARK);
            rest = &value[MARK.len()..];
            continue;
        }
        if end > open {
            out.push_str(MARK);
        }
        rest = &value[end..];
    }
    out.push_str(rest);
    out
}

/// Returns the start of the secret, after any opening quote, and its end.
fn value_span(value: &str, heads_line: bool) -> (usize, usize) {
    let until = |open: usize, end: &str| {
        let inner = &value[open..];
        (open, open + inner.find(end).unwrap_or(inner.len()))
    };
    if value.starts_with(MARK) {
        return (0, if heads_line { value.len() } else { MARK.len() });
    }
    // Nested JSON escapes the quotes.
    if value.starts_with("\\\"") {
        return until(2, "\\\"");
    }
    if let Some(quote @ ('"' | '\'')) = value.chars().next() {
        let escaped = |at: usize| quote == '"' && value[1..1 + at].ends_with('\\');
        let close = value[1..].match_indices(quote).map(|(at, _)| at).find(|at| !escaped(*at));
        return (1, close.map_or(value.len(), |at| at + 1));
    }
    if heads_line {
        return (0, value.len());
    }
    if value.starts_with('[') {
        return until(0, "]");
    }
    // The scheme of an Authorization header is not secret; the credential after it is.
    let open = ["Bearer ", "Basic "].iter().find(|scheme| value.starts_with(**scheme)).map_or(0, |s| s.len());
    let inner = &value[open..];
    let end = inner.find(['"', '\'', ',', ' ', '}', '\\']).unwrap_or(inner.len());
    (open, open + end)
}

fn redact_word(word: &str) -> String {
    match SECRET_STARTS.iter().filter_map(|start| word.find(start)).min() {
        Some(at) => format!("{}{MARK}", redact_bootstrap_tokens(&word[..at])),
        None => redact_bootstrap_tokens(word),
    }
}

/// Redacts tokens in the kubeadm format, `[a-z0-9]{6}.[a-z0-9]{16}`. Talos uses the same format. These
/// tokens are always secret.
fn redact_bootstrap_tokens(word: &str) -> String {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let is_token = |text: &str| {
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        text.split_once('.')
            .is_some_and(|(id, secret)| id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret))
    };
    let mut out = String::new();
    let mut rest = word;
    while let Some(start) = rest.find(part) {
        let length = rest[start..].find(|c| !part(c)).unwrap_or(rest.len() - start);
        let text = &rest[start..start + length];
        out.push_str(&rest[..start]);
        out.push_str(if is_token(text) { MARK } else { text });
        rest = &rest[start + length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_several_secrets_in_a_word_none_stays() {
        assert_eq!(redact("x=hskey-1,tskey-2"), format!("x={MARK}"));
        assert_eq!(redact("x abcdef.0123456789abcdef,tskey-2"), format!("x {MARK},{MARK}"));
    }

    #[test]
    fn every_form_of_a_secret_goes() {
        let text = "machine:\n  token: abcdef.0123456789abcdef\n  ca:\n    key: LS0tLS1CRUdJTiBFQyBQ\n\
                    TS_AUTHKEY=tskey-auth-XYZ rest\n{\"token\":\"abc\",\"x\":1}\n\
                    -----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\nafter\nsaw tskey-auth-1 there";
        let clean = redact(text);
        for secret in ["abcdef.0", "LS0t", "tskey", "\"abc\"", "MHcC"] {
            assert!(!clean.contains(secret), "{secret} is still in {clean}");
        }
        for kept in ["machine:", "token:", "rest", "\"x\":1", "after", "there"] {
            assert!(clean.contains(kept), "{kept} is missing in {clean}");
        }
    }

    #[test]
    fn credentials_go_however_they_are_passed() {
        for text in [
            "Authorization: Bearer S3CRET.def",
            "\"Authorization\": [\"Bearer S3CRET\"]",
            "curl -H 'Authorization: Bearer S3CRET' https://host",
            "sent Bearer S3CRET, refused",
            "kubelet --token=S3CRET -v 2",
            "kubelet --token S3CRET",
            "password: two S3CRET words",
            "x password=\"two \\\" S3CRET\" y",
            "  token: |\n    S3CRET\n  next: 1",
            "log \"{\\\"token\\\":\\\"S3CRET\\\"}\"",
            "bootstrapToken: S3CRET",
        ] {
            let clean = redact(text);
            assert!(!clean.contains("S3CRET") && clean.contains(MARK), "{text} became {clean}");
        }
        assert_eq!(redact("join with abcdef.0123456789abcdef now"), "join with [redacted] now");
        assert_eq!(redact("  token: |\n    S\n  next: 1"), "  token: [redacted]\n  next: 1");
    }

    #[test]
    fn ordinary_words_stay() {
        for text in [
            "monkey: 5, the key is there; keyboard=us tokens: 3",
            "Unauthorized: invalid bearer token, try again",
            "event worker-1.187a1b2c3d4e5f60 of cluster.local",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    proptest! {
        #[test]
        fn twice_is_as_once(
            text in "[a-z:= \"'\\n{},-]{0,60}|((token|key|Bearer|--secret|a|\\[redacted\\]|\\\\|[:= \"'\\[\\],\\n|])){0,14}"
        ) {
            let once = redact(&text);
            prop_assert_eq!(redact(&once), once);
        }

        #[test]
        fn a_token_never_survives(token in "[A-Z0-9]{12,30}", indent in 0usize..8) {
            let text = format!("{}token: {token}\nx={token}x", " ".repeat(indent));
            let clean = redact(&text);
            let first = clean.lines().next().unwrap_or_default();
            prop_assert!(!first.contains(&token));
        }
    }
}
