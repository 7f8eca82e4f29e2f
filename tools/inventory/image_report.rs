//! The contents of the node images, as `lab image build` wrote them into `validation/build-report.txt`.

use std::{fs, path::Path};

use crate::{
    Inventory, InventoryError, debian,
    go_modules::{Go, GoProgram},
};

const REPORT: &str = "validation/build-report.txt";
const PACKAGES: &str = "Debian packages unpacked:";
const MODULES: &str = "Go modules in ";

/// What a report lists.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    packages: Vec<(String, String)>,
    programs: Vec<GoProgram>,
}

/// Adds packages and modules of each node image below `images`.
pub fn add(
    inventory: &mut Inventory,
    go: &Go,
    images: &Path,
    tree: Option<&Path>,
) -> Result<(), InventoryError> {
    let mut names: Vec<_> = fs::read_dir(images)
        .map_err(InventoryError::file("list", images))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("boot/vmlinuz").is_file())
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(InventoryError::format(images.display().to_string(), "there is no node image"));
    }
    for image in names {
        let path = image.join(REPORT);
        let text = fs::read_to_string(&path).map_err(InventoryError::file("read", &path))?;
        let report = Report::parse(&text)
            .map_err(|problem| InventoryError::format(path.display().to_string(), problem))?;
        let part = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (name, version) in &report.packages {
            debian::add(inventory, name, version, &part, tree)?;
        }
        for program in &report.programs {
            go.add(inventory, program, &format!("{part}: {}", program.file.display()))?;
        }
    }
    Ok(())
}

impl Report {
    /// Reads sections of indented lines.
    fn parse(text: &str) -> Result<Self, String> {
        let mut report = Self::default();
        let mut in_packages = false;
        for line in text.lines() {
            match (line.strip_prefix("  "), line.strip_prefix(MODULES)) {
                (None, Some(program)) => {
                    let (file, go) = program
                        .trim_end_matches("):")
                        .rsplit_once(" (")
                        .ok_or_else(|| format!("{line:?} names no program"))?;
                    report.programs.push(GoProgram {
                        file: file.into(),
                        go: go.to_owned(),
                        modules: Vec::new(),
                    });
                    in_packages = false;
                }
                (None, None) => in_packages = line == PACKAGES,
                (Some(entry), _) => {
                    let pair =
                        entry.split_once(' ').map(|(name, version)| (name.to_owned(), version.to_owned()));
                    let list = match report.programs.last_mut() {
                        Some(program) if !in_packages => &mut program.modules,
                        _ if in_packages => &mut report.packages,
                        // The sizes of parts.
                        _ => continue,
                    };
                    list.push(pair.ok_or_else(|| format!("{line:?} has no version"))?);
                }
            }
        }
        match (report.packages.is_empty(), report.programs.is_empty()) {
            (true, _) => Err("it lists no Debian package".to_owned()),
            (_, true) => Err("it lists no Go program".to_owned()),
            _ => Ok(report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "reference node image\nkernel: 6.12\n\nsizes in bytes:\n  vmlinuz: 12\n\nDebian packages unpacked:\n  \
                        kmod 34.2-2\n  runc 1.1.15-1\n\nGo modules in kubernetes (go1.26.8):\n  k8s.io/api v0.34.2\n";

    #[test]
    fn packages_and_modules_are_read() {
        let report = Report::parse(TEXT).expect("report");
        assert_eq!(report.packages.len(), 2);
        assert_eq!(report.packages[0], ("kmod".to_owned(), "34.2-2".to_owned()));
        assert_eq!(report.programs.len(), 1);
        assert_eq!(report.programs[0].go, "go1.26.8");
        assert_eq!(report.programs[0].modules, [("k8s.io/api".to_owned(), "v0.34.2".to_owned())]);
    }

    #[test]
    fn a_report_that_lists_nothing_is_an_error() {
        assert!(Report::parse("reference node image\n").is_err());
        let without = TEXT.replace("  kmod 34.2-2\n  runc 1.1.15-1\n", "");
        assert_eq!(Report::parse(&without), Err("it lists no Debian package".to_owned()));
    }
}
