//! Text for users: error chains, and suggestions for unknown keys, values and names.

/// Formats an error and its causes on one line, without duplicates.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        source = next.source();
    }
    text
}

/// Formats "did you mean …?" if a similar word exists, and otherwise, or additionally, the allowed words.
pub fn choice<S: AsRef<str>>(word: &str, allowed: &[S], what: &str) -> Option<String> {
    let allowed: Vec<&str> = allowed.iter().map(AsRef::as_ref).collect();
    if allowed.is_empty() {
        return Some("nothing may stand here".to_owned());
    }
    let list = allowed.join(", ");
    Some(match nearest(word, &allowed) {
        Some(near) => format!("did you mean \"{near}\"? ({what}: {list})"),
        None => format!("{what}: {list}"),
    })
}

/// Returns the most similar word, if it is similar enough for a suggestion.
pub fn nearest<'a>(word: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let plain = |s: &str| s.to_lowercase().replace(['-', '_', ' '], "");
    let word = plain(word);
    let scored = allowed.iter().map(|candidate| {
        let candidate_plain = plain(candidate);
        let score = strsim::normalized_damerau_levenshtein(&word, &candidate_plain);
        // An allowed word that starts with the input matches: "mem" for "memory".
        let begins = word.len() >= 3 && candidate_plain.starts_with(&word);
        (if begins { score.max(0.7) } else { score }, *candidate)
    });
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.5).then_some(best.1)
}

/// Returns a word as a POSIX shell reads it.
pub fn shell_quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=,@%+".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_strange_word_has_none() {
        let allowed = ["name", "kind", "memory", "allowSchedulingOnControlPlanes", "pod-network"];
        assert_eq!(nearest("nmae", &allowed), Some("name"));
        assert_eq!(nearest("mem", &allowed), Some("memory"));
        assert_eq!(nearest("Pod_Network", &allowed), Some("pod-network"));
        assert_eq!(nearest("allowSchedulingOnControlPlane", &allowed), Some(allowed[3]));
        assert_eq!(nearest("zebra", &allowed), None);
        assert_eq!(nearest("", &[]), None);
    }
}
