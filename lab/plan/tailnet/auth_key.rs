//! Auth keys. The lab reads these secrets and never shows them.

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The replacement text for a key in output.
const MARK: &str = "[redacted]";

/// A key that lets a machine join a tailnet. `Debug` and `Display` hide the key, and the type is not
/// serializable. The key therefore cannot leak into events, errors or reports by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthKey(String);

/// The reason for a missing or unusable key. Errors never quote the input.
#[derive(Debug, thiserror::Error)]
pub enum AuthKeyError {
    /// The key is empty.
    #[error("the auth key from {origin} is empty; put the key there, with nothing else")]
    Empty {
        /// The origin of the key.
        origin: String,
    },
    /// The text is not a valid key.
    #[error(
        "the auth key from {origin} has white space, control characters or quotes inside; it must be the key alone"
    )]
    Malformed {
        /// The origin of the key.
        origin: String,
    },
    /// The environment variable is not set.
    #[error("there is no auth key: the environment has no {variable}; set it, or name a file of mode 0600")]
    NotSet {
        /// The name of the variable.
        variable: String,
    },
    /// Other users can read the file.
    #[error("the auth key file {} has mode {mode:04o}; others may read it: chmod 600 {}", path.display(), path.display())]
    Readable {
        /// The key file.
        path: PathBuf,
        /// The file mode.
        mode: u32,
    },
    /// A file operation failed.
    #[error("cannot {action} the auth key file {}", path.display())]
    File {
        /// The attempted operation.
        action: &'static str,
        /// The key file.
        path: PathBuf,
        source: io::Error,
    },
}

impl AuthKey {
    /// Parses a key from text and trims white space. `origin` names the source of the text in errors.
    ///
    /// # Errors
    /// Returns an error if the text is empty or not a valid key.
    pub fn new(text: &str, origin: &str) -> Result<Self, AuthKeyError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AuthKeyError::Empty { origin: origin.to_owned() });
        }
        // Such a key would also break its line in the service config.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '\'') {
            return Err(AuthKeyError::Malformed { origin: origin.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads the key from an environment variable, usually `TS_AUTHKEY`.
    ///
    /// # Errors
    /// Returns an error if the variable is not set or contains no valid key.
    pub fn from_environment(variable: &str) -> Result<Self, AuthKeyError> {
        let text =
            std::env::var(variable).map_err(|_| AuthKeyError::NotSet { variable: variable.to_owned() })?;
        Self::new(&text, variable)
    }

    /// Reads the key from a file. Only the owner may have read permission.
    ///
    /// # Errors
    /// Returns an error if the file is unreadable, if other users can read it, or if it contains no valid
    /// key.
    pub fn from_file(path: &Path) -> Result<Self, AuthKeyError> {
        let failed = |source| AuthKeyError::File { action: "read", path: path.to_owned(), source };
        let mode = fs::metadata(path).map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(AuthKeyError::Readable { path: path.to_owned(), mode });
        }
        Self::new(
            &lab_model::files::read_text_bounded(path, 64 << 10).map_err(failed)?,
            &path.display().to_string(),
        )
    }

    /// Writes the key to a new file of mode 0600, for programs that accept `file:PATH`.
    ///
    /// # Errors
    /// Returns an error if the file already exists or a file operation fails.
    pub fn write_new(&self, path: &Path) -> Result<(), AuthKeyError> {
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(self.0.as_bytes())
        };
        write().map_err(|source| AuthKeyError::File { action: "write", path: path.to_owned(), source })
    }

    /// Returns the key in plain text. Call this only where the key itself is required.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Removes the key from `text`. Use this for the output of other programs.
    pub fn redact(&self, text: &str) -> String {
        text.replace(&self.0, MARK)
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthKey({MARK})")
    }
}

impl fmt::Display for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MARK)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        AuthKey::new("planted-key", "a test").unwrap().write_new(&path).unwrap();
        assert_eq!(AuthKey::from_file(&path).unwrap().reveal(), "planted-key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = AuthKey::from_file(&path).unwrap_err().to_string();
        assert!(error.contains("0640") && !error.contains("planted"), "{error}");
        assert!(AuthKey::new("x", "a test").unwrap().write_new(&path).is_err(), "an old file is kept");
    }

    #[test]
    fn what_cannot_be_a_key_is_refused_without_quoting_it() {
        for text in ["", "  \n", "two words", "a\nb", "\"quoted\""] {
            let error = AuthKey::new(text, "TS_AUTHKEY").unwrap_err().to_string();
            assert!(error.contains("TS_AUTHKEY") && !error.contains("words"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_key_is_never_shown(key in "[!#-&(-~]{8,64}") {
            let key = AuthKey::new(&key, "a test").unwrap();
            let shown = format!("{key} {key:?} {}", key.redact(&format!("<{}>", key.reveal())));
            prop_assert!(!shown.contains(key.reveal()) || MARK.contains(key.reveal()), "{shown}");
        }
    }
}
