//! Selects the unified kernel image that systemd-boot would boot.
//!
//! Sources: UAPI Group "Boot Loader Specification" (type #2 entries in `EFI/Linux/`) and "Version Format
//! Specification", systemd's `loader.conf(5)` (`default`). A disk image does not contain the EFI variables
//! of systemd-boot.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

/// Maximum pattern length in bytes. Longer patterns are ignored.
const PATTERN_LIMIT: usize = 255;

/// The selected unified kernel image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The file name.
    pub name: String,
    /// The file names of the other images.
    pub others: Vec<String>,
    /// The reason for the selection.
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Reason {
    /// `default` in `loader.conf` matches it.
    Default,
    /// It has the highest version.
    Newest,
}

impl Choice {
    /// Selects the default of `loader.conf` from `names`, or the newest name. `loader` is the text of
    /// `loader.conf`. Returns `None` if `names` is empty.
    pub fn among(mut names: Vec<String>, loader: &str) -> Option<Self> {
        names.sort_by(|a, b| compare(b, a));
        let default = default(loader).and_then(|pattern| names.iter().position(|name| fits(&pattern, name)));
        let reason = if default.is_some() { Reason::Default } else { Reason::Newest };
        if names.is_empty() {
            return None;
        }
        let name = names.remove(default.unwrap_or(0));
        Some(Self { name, others: names, reason })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the EFI system partition", self.name)?;
        if self.others.is_empty() {
            return Ok(());
        }
        let reason = match self.reason {
            Reason::Default => "the default of loader.conf",
            Reason::Newest => "the newest",
        };
        write!(f, " ({reason}; there is also {})", self.others.join(", "))
    }
}

/// Returns the default pattern in `loader.conf`.
fn default(loader: &str) -> Option<glob::Pattern> {
    let mut keys = loader.lines().rev().filter_map(|line| line.trim().split_once([' ', '\t']));
    let value = keys.find_map(|(key, value)| (key == "default").then_some(value))?;
    let value = value.trim().trim_matches('"');
    // `@saved` and similar values refer to EFI variables.
    if value.starts_with('@') || value.len() > PATTERN_LIMIT {
        return None;
    }
    glob::Pattern::new(value).ok()
}

fn fits(pattern: &glob::Pattern, name: &str) -> bool {
    let any_case = glob::MatchOptions { case_sensitive: false, ..glob::MatchOptions::default() };
    pattern.matches_with(name, any_case)
}

/// Compares two versions, or names that contain versions, according to the specification. A greater version
/// is newer.
fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        (a, b) = (significant(a), significant(b));
        // A pre-release is older than the version without a suffix.
        if let Some(order) = separator(&mut a, &mut b, b'~') {
            return order;
        }
        if a.is_empty() || b.is_empty() {
            return a.len().min(1).cmp(&b.len().min(1));
        }
        for mark in *b"-^." {
            if let Some(order) = separator(&mut a, &mut b, mark) {
                return order;
            }
        }
        let numbers = starts(a, u8::is_ascii_digit) || starts(b, u8::is_ascii_digit);
        let order = if numbers {
            let (x, y) = (prefix(&mut a, u8::is_ascii_digit), prefix(&mut b, u8::is_ascii_digit));
            let value = |digits: &[u8]| {
                let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
                (digits.len() - zeros, digits[zeros..].to_vec())
            };
            x.is_empty().cmp(&y.is_empty()).reverse().then_with(|| value(x).cmp(&value(y)))
        } else {
            prefix(&mut a, u8::is_ascii_alphabetic).cmp(prefix(&mut b, u8::is_ascii_alphabetic))
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Checks whether exactly one of the two texts starts with `mark`. The text with the mark is older.
fn separator(a: &mut &[u8], b: &mut &[u8], mark: u8) -> Option<Ordering> {
    match (a.first() == Some(&mark), b.first() == Some(&mark)) {
        (true, true) => {
            (*a, *b) = (&a[1..], &b[1..]);
            None
        }
        (false, false) => None,
        (first, second) => Some(second.cmp(&first)),
    }
}

/// Skips the characters before the first significant character.
fn significant(text: &[u8]) -> &[u8] {
    let counts = |byte: &u8| byte.is_ascii_alphanumeric() || b"~-^.".contains(byte);
    &text[text.iter().position(counts).unwrap_or(text.len())..]
}

fn starts(text: &[u8], class: impl Fn(&u8) -> bool) -> bool {
    text.first().is_some_and(class)
}

fn prefix<'a>(text: &mut &'a [u8], class: impl Fn(&u8) -> bool) -> &'a [u8] {
    let (taken, rest) = text.split_at(text.iter().take_while(|byte| class(byte)).count());
    *text = rest;
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chosen(names: &[&str], loader: &str) -> String {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Choice::among(names, loader).expect("one").to_string()
    }

    const TWO: [&str; 2] = ["Talos-v1.9.10.efi", "Talos-v1.11.5.efi"];

    #[test]
    fn the_only_one_is_taken_and_none_is_none() {
        assert_eq!(chosen(&TWO[..1], "timeout 10\n"), "Talos-v1.9.10.efi in the EFI system partition");
        assert_eq!(Choice::among(Vec::new(), "default x"), None);
    }

    #[test]
    fn of_several_the_default_of_loader_conf_is_taken_else_the_newest() {
        let newest =
            "Talos-v1.11.5.efi in the EFI system partition (the newest; there is also Talos-v1.9.10.efi)";
        for loader in
            ["", "#default Talos-v1.9*\n", "default @saved", "default gone*.efi", "default [", "defaults x"]
        {
            assert_eq!(chosen(&TWO, loader), newest, "{loader}");
        }
        for loader in [
            "timeout 3\ndefault\ttalos-v1.9.*\n",
            "  default Talos-v1.9.10.efi\r\n",
            "default x\ndefault *10.efi",
        ] {
            let text = chosen(&TWO, loader);
            assert!(
                text.starts_with("Talos-v1.9.10.efi in the EFI system partition (the default of"),
                "{text}"
            );
        }
    }

    #[test]
    fn versions_are_ordered_as_the_specification_says() {
        // Examples from the specification, and Talos file names.
        let ascending = [
            ["122.1", "123~rc1-1"],
            ["123~rc1-1", "123"],
            ["123", "123-a"],
            ["123-a", "123-a.1"],
            ["123-a.1", "123-1"],
            ["123-1", "123-1.1"],
            ["123-1.1", "123^post1"],
            ["123^post1", "123.a-1"],
            ["123.a-1", "123.1-1"],
            ["123.1-1", "123a-1"],
            ["123a-1", "124-1"],
            ["Talos-v1.11.5~1.efi", "Talos-v1.11.5.efi"],
            ["Talos-v1.11.0-alpha.2.efi", "Talos-v1.11.0.efi"],
            ["Talos-v1.9.10.efi", "Talos-v1.010.0.efi"],
        ];
        for [older, newer] in ascending {
            assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare(newer, older), Ordering::Greater, "{newer} {older}");
        }
        assert_eq!(compare("v1_0", "v1_0"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn any_names_have_an_order(a in "[a-z0-9~^. é-]{0,12}", b in "[a-z0-9~^. é-]{0,12}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
        }
    }
}
