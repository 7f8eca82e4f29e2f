//! Secrets are taken out of every text before it is written for people.

/// What stands in for a secret.
const MARK: &str = "[redacted]";

/// Keys whose value is a secret wherever it stands (machine configs, kubeconfigs, talosconfigs,
/// extension environments).
const SECRET_KEYS: [&str; 12] = [
    "token",
    "key",
    "secret",
    "secretboxEncryptionSecret",
    "aescbcEncryptionSecret",
    "bootstraptoken",
    "secretboxencryptionsecret",
    "client-key-data",
    "password",
    "TS_AUTHKEY",
    "authorization",
    "Authorization",
];

/// Starts of words that are secrets by themselves.
const SECRET_PREFIXES: [&str; 2] = ["tskey-", "hskey-"];

/// The text without private keys, tokens, auth keys and the values of secret keys. Works line by
/// line, so it also redacts excerpts; redacting twice changes nothing.
pub fn redact(text: &str) -> String {
    let mut out = Vec::new();
    let mut in_private_key = false;
    for line in text.split('\n') {
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY-----") {
            in_private_key = !line.contains("-----END");
            out.push(MARK.to_owned());
        } else if in_private_key {
            in_private_key = !line.contains("-----END");
        } else {
            out.push(redact_line(line));
        }
    }
    out.join("\n")
}

fn redact_line(line: &str) -> String {
    let mut line = line.to_owned();
    for key in SECRET_KEYS {
        line = redact_key(&line, key);
    }
    line.split(' ').map(redact_word).collect::<Vec<_>>().join(" ")
}

/// Replaces what follows `key:`, `key=` or `"key":` up to the end of the value.
fn redact_key(line: &str, key: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(key) {
        let (before, from) = rest.split_at(at);
        let after = &from[key.len()..];
        let starts_word =
            !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '.');
        let unquoted = after.strip_prefix('"').unwrap_or(after);
        match unquoted.strip_prefix([':', '=']) {
            Some(value) if starts_word => {
                let value_start = value.len() - value.trim_start_matches([' ', '"', '\'']).len();
                let (lead, value) = value.split_at(value_start);
                let end = value.find(['"', '\'', ',', ' ', '}']).unwrap_or(value.len());
                let head = &from[..from.len() - value.len() - lead.len()];
                out.push_str(before);
                out.push_str(head);
                out.push_str(lead);
                if end > 0 {
                    out.push_str(MARK);
                }
                rest = &value[end..];
                // A value that is the mark already is left as it is.
                if let Some(tail) = value.strip_prefix(MARK) {
                    rest = tail;
                }
            }
            _ => {
                out.push_str(before);
                out.push_str(key);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn redact_word(word: &str) -> String {
    for prefix in SECRET_PREFIXES {
        if let Some(at) = word.find(prefix) {
            return format!("{}{MARK}", &word[..at]);
        }
    }
    if let Some(at) = word.find("LS0tLS1CRUdJTi") {
        // Base64 of "-----BEGIN": a certificate or key in a config. Which one cannot be told here.
        return format!("{}{MARK}", &word[..at]);
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
    fn ordinary_words_stay() {
        let text = "monkey: 5, the key is there; keyboard=us tokens: 3";
        assert_eq!(redact(text), text);
    }

    proptest! {
        #[test]
        fn twice_is_as_once(text in "[a-z:= \"'\\n{},-]{0,60}|token: [a-z0-9.]{1,20}|key=\"[a-z]{1,9}\"") {
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
