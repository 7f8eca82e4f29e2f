//! Text output for inspections and differences.

use std::fmt;

use super::{
    difference::{Difference, Names},
    inspection::{FileVerdict, Inspection},
    plain::plain,
};

/// Formats a size with a suitable unit.
fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {label:<14} {}", plain(text))
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.directory.display())?;
        line(f, "digest", &self.digest.to_string())?;
        line(f, "layout", &self.layout)?;
        line(f, "architecture", self.architecture)?;
        let unknown = "of unknown version";
        let (packed, raw) = self.kernel_bytes;
        let kernel = self.kernel_version.as_deref().unwrap_or(unknown);
        line(f, "kernel", &format!("{kernel}, {} ({} unpacked)", size(packed), size(raw)))?;
        line(f, "node software", self.contents.node_version.as_deref().unwrap_or(unknown))?;
        let (packed, whole) = self.initramfs_bytes;
        let initramfs = format!("{}, {:?} ({} unpacked)", size(packed), self.compression, size(whole));
        line(f, "initramfs", &initramfs)?;
        if let Some(arguments) = &self.arguments {
            line(f, "arguments", arguments)?;
        }
        if self.contents.extensions.is_empty() {
            line(f, "extensions", "none")?;
        }
        for extension in &self.contents.extensions {
            let text = format!("{} {} ({})", extension.name, extension.version, extension.layer);
            line(f, "extension", &text)?;
        }
        for service in &self.contents.services {
            let depends = match service.depends.as_slice() {
                [] => "nothing".to_owned(),
                depends => depends.join("; "),
            };
            let text = format!("{} of {}, waits for {depends}", service.id, service.extension);
            line(f, "service", &text)?;
            if service.needs_configuration {
                line(f, "", "needs an ExtensionServiceConfig document, else the boot does not end")?;
            }
        }
        for (label, names) in
            [("runtime", &self.contents.runtime_handlers), ("module", &self.contents.kernel_modules)]
        {
            names.iter().try_for_each(|name| line(f, label, name))?;
        }
        for program in &self.contents.foreign {
            line(f, "not arm64", program)?;
        }
        for layer in &self.layers {
            line(f, "layer", &format!("{} {} {}", layer.name, size(layer.bytes), layer.digest))?;
        }
        for file in &self.checksums {
            let (sign, text) = match file.verdict {
                FileVerdict::Matches => ("✅", "matches its checksum"),
                FileVerdict::Mismatch => {
                    ("❌", "differs from its checksum: rebuild or fetch the image again")
                }
                FileVerdict::Missing => ("❌", "has a checksum, but does not exist"),
                FileVerdict::Uncovered => ("❌", "has no checksum"),
            };
            write!(f, "  {sign} {} {text}", plain(&file.path))?;
            if let (Some(digest), Some(bytes)) = (&file.digest, file.bytes) {
                write!(f, " ({}, {digest})", size(bytes))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.same_digest {
            return write!(f, "the same image, by digest");
        }
        let mut parts = Vec::new();
        for (sign, names) in [("+", &self.added), ("-", &self.removed), ("~", &self.changed)] {
            parts.extend(names.iter().map(|name| format!("{sign}{name}")));
        }
        for (label, Names { added, removed }) in [
            ("service", &self.services),
            ("runtime", &self.runtime_handlers),
            ("module", &self.kernel_modules),
        ] {
            parts.extend(added.iter().map(|name| format!("+{label} {name}")));
            parts.extend(removed.iter().map(|name| format!("-{label} {name}")));
        }
        for (label, versions) in [("kernel", &self.kernel), ("node software", &self.node_version)] {
            if let Some((first, second)) = versions {
                let name = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
                parts.push(format!("{label} {} → {}", name(first), name(second)));
            }
        }
        parts.extend(self.other_content.iter().map(|name| format!("other content in {name}")));
        if parts.is_empty() {
            parts.push("the same extensions, layers and versions, other files".to_owned());
        }
        write!(f, "{}", plain(&parts.join(", ")))
    }
}
