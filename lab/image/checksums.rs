//! Checksum files of an image, in the `sha256sum` format.

use std::{collections::BTreeMap, fmt};

use lab_model::Digest;

/// A parsed checksum file. Maps each path, relative to the image directory, to its digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    entries: BTreeMap<String, Digest>,
}

/// A problem with one file, or with one line of the checksum file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChecksumFault {
    /// A line does not have the form `HEX  PATH`.
    Malformed {
        /// Line number, starting at 1.
        line: usize,
    },
    /// A path leaves the image directory.
    Outside {
        /// Line number, starting at 1.
        line: usize,
        path: String,
    },
    /// No line covers a boot file.
    Uncovered {
        /// The boot file.
        path: String,
    },
    /// The content does not match the checksum.
    Mismatch {
        path: String,
        /// The digest in the checksum file.
        expected: Digest,
        /// The digest of the content.
        actual: Digest,
    },
}

impl fmt::Display for ChecksumFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { line } => write!(f, "line {line} is not \"HEX  PATH\""),
            Self::Outside { line, path } => write!(f, "line {line}: {path:?} leads out of the image"),
            Self::Uncovered { path } => write!(f, "{path} is not covered by the checksum file"),
            Self::Mismatch { path, expected, actual } => {
                write!(f, "{path} has {actual}, expected {expected}; rebuild or fetch the image again")
            }
        }
    }
}

impl Checksums {
    /// Parses `HEX  ./path` lines (text or binary marker). Removes `./` from paths.
    ///
    /// # Errors
    /// Returns the first line with another form.
    pub fn parse(text: &str) -> Result<Self, ChecksumFault> {
        let mut entries = BTreeMap::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let malformed = || ChecksumFault::Malformed { line: index + 1 };
            let (hex, path) = line.split_once([' ', '\t']).ok_or_else(malformed)?;
            let path = path.trim_start_matches([' ', '\t', '*']).trim_start_matches("./").trim_end();
            let digest = Digest::from_hex(hex).filter(|_| !path.is_empty()).ok_or_else(malformed)?;
            if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.contains('\0') {
                return Err(ChecksumFault::Outside { line: index + 1, path: path.to_owned() });
            }
            entries.insert(path.to_owned(), digest);
        }
        Ok(Self { entries })
    }

    /// Parses a checksum file for the single file `path`. The digest may have a file name after it.
    ///
    /// # Errors
    /// Returns an error if the first line has another form.
    pub fn of_one_file(text: &str, path: &str) -> Result<Self, ChecksumFault> {
        let hex = text.split_whitespace().next().unwrap_or_default();
        let digest = Digest::from_hex(hex).ok_or(ChecksumFault::Malformed { line: 1 })?;
        Ok(Self { entries: BTreeMap::from([(path.to_owned(), digest)]) })
    }

    /// Adds the entries of another checksum file.
    pub(super) fn take(&mut self, more: Self) {
        self.entries.extend(more.entries);
    }

    /// Removes the paths that `wanted` rejects.
    pub(super) fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.entries.retain(|path, _| wanted(path));
    }

    /// Returns the covered paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Compares the digest of a file with its checksum.
    ///
    /// # Errors
    /// Returns an error if the file is not covered or its digest differs.
    pub fn verify(&self, path: &str, actual: &Digest) -> Result<(), ChecksumFault> {
        match self.entries.get(path) {
            None => Err(ChecksumFault::Uncovered { path: path.to_owned() }),
            Some(expected) if expected != actual => Err(ChecksumFault::Mismatch {
                path: path.to_owned(),
                expected: expected.clone(),
                actual: actual.clone(),
            }),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn lines_of_sha256sum_are_read_in_all_their_forms() {
        let empty = Digest::of_bytes(b"");
        let sums =
            Checksums::parse(&format!("{HEX}  ./boot/vmlinuz\n\n{HEX} *initramfs.xz\n")).expect("parse");
        assert_eq!(sums.verify("boot/vmlinuz", &empty), Ok(()));
        assert_eq!(sums.verify("initramfs.xz", &empty), Ok(()));
        assert!(matches!(sums.verify("other", &empty), Err(ChecksumFault::Uncovered { .. })));
        let other = Digest::of_bytes(b"x");
        assert!(matches!(sums.verify("initramfs.xz", &other), Err(ChecksumFault::Mismatch { .. })));
    }

    #[test]
    fn a_broken_line_is_named_by_number() {
        assert_eq!(
            Checksums::parse(&format!("{HEX}  a\nnot a checksum\n")),
            Err(ChecksumFault::Malformed { line: 2 })
        );
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        for path in ["../secret", "/etc/passwd", "boot/../../x"] {
            let fault = Checksums::parse(&format!("{HEX}  {path}\n")).expect_err("outside");
            assert_eq!(fault, ChecksumFault::Outside { line: 1, path: path.to_owned() });
        }
    }
}
