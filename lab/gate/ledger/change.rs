//! What changed between two releases.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{Ledger, LedgerPart};

/// A part that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub part: String,
    /// The changes, one sentence each.
    pub changes: Vec<String>,
}

impl Ledger {
    /// Returns the parts that were added, removed or changed since the ledger `before`.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let by_part = |ledger: &Self| -> BTreeMap<String, LedgerPart> {
            ledger.parts.iter().map(|part| (part.part.clone(), part.clone())).collect()
        };
        let (old, new) = (by_part(before), by_part(self));
        let mut found = Vec::new();
        for (name, part) in &new {
            let changes = match old.get(name) {
                None => vec![format!("new: {}", part.source)],
                Some(before) => differences(before, part),
            };
            if !changes.is_empty() {
                found.push(Change { part: name.clone(), changes });
            }
        }
        let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
        found.extend(gone.map(|(name, part)| Change {
            part: name.clone(),
            changes: vec![format!("gone: {}", part.source)],
        }));
        found
    }
}

fn differences(before: &LedgerPart, after: &LedgerPart) -> Vec<String> {
    let mut found = Vec::new();
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    for (what, old, new) in
        [("software", &before.software, &after.software), ("kernel", &before.kernel, &after.kernel)]
    {
        if old != new {
            found.push(format!("{what} {} → {}", text(old), text(new)));
        }
    }
    let (added, removed): (Vec<_>, Vec<_>) = (
        after.extensions.iter().filter(|one| !before.extensions.contains(one)).collect(),
        before.extensions.iter().filter(|one| !after.extensions.contains(one)).collect(),
    );
    found.extend(added.into_iter().map(|one| format!("+{one}")));
    found.extend(removed.into_iter().map(|one| format!("-{one}")));
    if before.digest != after.digest {
        let short =
            |digest: &Option<String>| text(digest).chars().take("sha256:".len() + 12).collect::<String>();
        found.push(format!("digest {} → {}", short(&before.digest), short(&after.digest)));
        if before.bytes != after.bytes {
            let change = i128::from(after.bytes) - i128::from(before.bytes);
            found.push(format!("size {:+} KiB", change / 1024));
        }
    }
    if before.failure != after.failure {
        found.extend(after.failure.iter().map(|why| format!("cannot be read: {why}")));
    }
    found
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.changes.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(parts: Vec<LedgerPart>) -> Ledger {
        Ledger { form: 1, release: "v1".into(), checked: jiff::Timestamp::UNIX_EPOCH, lab: "x".into(), parts }
    }

    fn part(name: &str, digest: &str, extensions: &[&str]) -> LedgerPart {
        LedgerPart {
            part: name.into(),
            source: format!("{name}:v1"),
            digest: Some(digest.into()),
            extensions: extensions.iter().map(|name| (*name).to_owned()).collect(),
            ..LedgerPart::default()
        }
    }

    #[test]
    fn added_removed_and_changed_parts_are_told_and_equal_ones_are_not() {
        let before = ledger(vec![
            part("a", "sha256:1", &["drbd v9.1", "spin v1"]),
            part("b", "sha256:2", &[]),
            part("c", "sha256:3", &[]),
        ]);
        let after = ledger(vec![
            part("a", "sha256:4", &["drbd v9.2", "spin v1"]),
            part("b", "sha256:2", &[]),
            part("d", "sha256:5", &[]),
        ]);
        let told: Vec<_> = after.changes_since(&before).iter().map(Change::to_string).collect();
        assert_eq!(
            told,
            ["a: +drbd v9.2, -drbd v9.1, digest sha256:1 → sha256:4", "d: new: d:v1", "c: gone: c:v1"]
        );
        assert!(after.changes_since(&after).is_empty());
    }

    #[test]
    fn a_ledger_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("ledger.json");
        let own = ledger(vec![part("a", "sha256:1", &["drbd v9"])]);
        own.write(&path).expect("write");
        assert_eq!(Ledger::read(&path).expect("read"), own);
        std::fs::write(&path, "{}").expect("write");
        assert!(
            Ledger::read(&path).expect_err("form").to_string().contains("it is not a ledger of `lab gate`")
        );
    }
}
