//! Auth keys: secrets that must never be seen again once they are read.

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What stands in for a key wherever one would be shown.
const MARK: &str = "[redacted]";

/// A key that lets a machine join a tailnet. `Debug` and `Display` hide it and it cannot be
/// serialized, so that it reaches no event, error or report by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthKey(String);

/// Why there is no usable key. Never quotes what was found.
#[derive(Debug, thiserror::Error)]
pub enum AuthKeyError {
    /// Nothing in it.
    #[error("the auth key from {origin} is empty; put the key there, with nothing else")]
    Empty {
        /// Where it was looked for.
        origin: String,
    },
    /// It cannot be a key.
    #[error(
        "the auth key from {origin} has white space, control characters or quotes inside; it must be the key alone"
    )]
    Malformed {
        /// Where it was looked for.
        origin: String,
    },
    /// The environment does not have it.
    #[error("there is no auth key: the environment has no {variable}; set it, or name a file of mode 0600")]
    NotSet {
        /// Which variable was asked for.
        variable: String,
    },
    /// Others could read it.
    #[error("the auth key file {} has mode {mode:04o}; others may read it: chmod 600 {}", path.display(), path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file system refused.
    #[error("cannot {action} the auth key file {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl AuthKey {
    /// Takes a key from text; white space around it is dropped. `origin` says where the text came
    /// from, for errors.
    ///
    /// # Errors
    /// When there is none or it cannot be one.
    pub fn new(text: &str, origin: &str) -> Result<Self, AuthKeyError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AuthKeyError::Empty { origin: origin.to_owned() });
        }
        // Such a key would also break the line of the service config that carries it.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '\'') {
            return Err(AuthKeyError::Malformed { origin: origin.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }

    /// Takes the key from an environment variable, usually `TS_AUTHKEY`.
    ///
    /// # Errors
    /// When the variable is not there or holds no key.
    pub fn from_environment(variable: &str) -> Result<Self, AuthKeyError> {
        let text =
            std::env::var(variable).map_err(|_| AuthKeyError::NotSet { variable: variable.to_owned() })?;
        Self::new(&text, variable)
    }

    /// Takes the key from a file that only its owner may read.
    ///
    /// # Errors
    /// When the file cannot be read, others may read it, or it holds no key.
    pub fn from_file(path: &Path) -> Result<Self, AuthKeyError> {
        let failed = |source| AuthKeyError::File { action: "read", path: path.to_owned(), source };
        let mode = fs::metadata(path).map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(AuthKeyError::Readable { path: path.to_owned(), mode });
        }
        Self::new(&fs::read_to_string(path).map_err(failed)?, &path.display().to_string())
    }

    /// Writes it to a new file of mode 0600, for programs that take `file:PATH`.
    ///
    /// # Errors
    /// When the file exists already or the file system refuses.
    pub fn write_new(&self, path: &Path) -> Result<(), AuthKeyError> {
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(self.0.as_bytes())
        };
        write().map_err(|source| AuthKeyError::File { action: "write", path: path.to_owned(), source })
    }

    /// The key itself, for the one place that must have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` without the key, for lines that other programs wrote.
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
