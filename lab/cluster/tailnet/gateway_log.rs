//! The reason for a failed login in the log of a gateway's service.

/// Substrings that identify the reason, the most specific first. `tailscale up` and containerboot of
/// v1.90.6 write them to standard error before they exit.
const TELLING: [&str; 7] = [
    "flag provided but not defined",
    "invalid value",
    "backend error",
    "x509:",
    "no such host",
    "connection refused",
    "failed to auth",
];

/// Returns the last line with the most specific substring, without its timestamp.
pub fn telling_line(log: &str) -> Option<&str> {
    let line = TELLING.iter().find_map(|words| log.lines().rev().find(|line| line.contains(words)))?;
    Some(without_time(line.trim()))
}

/// Removes the timestamp from `2026/11/21 13:30:30 text` and `boot: 2026/11/21 13:30:30 text`.
fn without_time(line: &str) -> &str {
    let line = line.strip_prefix("boot: ").unwrap_or(line);
    let mut rest = line.splitn(3, ' ');
    let stamp = |word: Option<&str>| {
        word.is_some_and(|word| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || "/:.".contains(c))
        })
    };
    match (stamp(rest.next()), stamp(rest.next()), rest.next()) {
        (true, true, Some(text)) => text,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_line_is_found_wherever_it_stands() {
        let log = "2026/11/21 13:30:30 Start\nflag provided but not defined: -no-such-flag\nUSAGE\n\
            boot: 2026/11/21 13:30:31 failed to auth tailscale: tailscale up failed: exit status 1\n";
        assert_eq!(telling_line(log), Some("flag provided but not defined: -no-such-flag"));
        let log = log.replace("flag provided", "flags are given");
        assert_eq!(telling_line(&log), Some("failed to auth tailscale: tailscale up failed: exit status 1"));
        assert_eq!(telling_line("2026/11/21 13:30:30 Start\n"), None);
        assert_eq!(telling_line(""), None);
    }
}
