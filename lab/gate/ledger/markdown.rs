//! The ledger as a table in Markdown.

use super::{Ledger, LedgerPart};

impl Ledger {
    /// Formats a table of all parts.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "### Ledger of {}\n\n| part | reference | digest | size | built | architecture | contents |\n|---|---|---|---|---|---|---|\n",
            cell(&self.release)
        );
        for part in &self.parts {
            let LedgerPart { part: name, source, digest, bytes, created, architecture, .. } = part;
            let cells = [
                name.clone(),
                source.clone(),
                digest.clone().unwrap_or_default(),
                format!("{:.1} MiB", *bytes as f64 / f64::from(1 << 20)),
                created.clone().unwrap_or_default(),
                architecture.join("; "),
                contents(part),
            ];
            let cells: Vec<_> = cells.iter().map(|text| cell(text)).collect();
            text += &format!("| {} |\n", cells.join(" | "));
        }
        text
    }
}

fn contents(part: &LedgerPart) -> String {
    let LedgerPart { kernel, software, extensions, proofs, failure, .. } = part;
    let failure = failure.iter().map(|why| format!("cannot be read: {why}"));
    let versions = software.iter().cloned().chain(kernel.iter().map(|kernel| format!("kernel {kernel}")));
    let rest = extensions.iter().cloned().chain(proofs.iter().cloned());
    failure.chain(versions).chain(rest).collect::<Vec<_>>().join("; ")
}

/// Text that does not end a cell. Images wrote some of it.
pub(crate) fn cell(text: &str) -> String {
    lab_model::visible(text, 500).replace('|', "\\|").replace(['`', '<', '>'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_a_row_and_foreign_text_stays_in_its_cell() {
        let part = LedgerPart {
            part: "compute/metal image".into(),
            source: "ghcr.io/you/talos:v1".into(),
            bytes: 3 << 20,
            software: Some("Talos | `x`\n| forged".into()),
            extensions: vec!["drbd v9".into()],
            ..LedgerPart::default()
        };
        let ledger = Ledger {
            form: 1,
            release: "v1".into(),
            checked: jiff::Timestamp::UNIX_EPOCH,
            lab: "x".into(),
            parts: vec![part],
        };
        let text = ledger.markdown();
        let rows: Vec<_> = text.lines().skip(4).collect();
        assert_eq!(
            rows,
            [
                "| compute/metal image | ghcr.io/you/talos:v1 |  | 3.0 MiB |  |  | Talos \\|  x  / \\| forged; drbd v9 |"
            ]
        );
    }
}
