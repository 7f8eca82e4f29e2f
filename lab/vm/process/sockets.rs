//! A short, private directory for unix sockets.
//!
//! `sun_path` holds 108 bytes on Linux and 104 on macOS. The path of a run directory can be longer,
//! so sockets are in the runtime or temporary directory.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::record::SOCKETS_PREFIX;

/// The length limit of `sun_path` on every supported system, without the closing zero byte.
const LONGEST: usize = 103;

/// A directory that only its owner can access. Dropping the value removes it with all its contents.
#[derive(Debug)]
pub struct SocketDirectory {
    directory: tempfile::TempDir,
}

impl SocketDirectory {
    /// Creates a directory in `$XDG_RUNTIME_DIR` if possible, else in `/tmp`. The random name
    /// prevents conflicts between labs.
    pub fn create() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let make = |base: &Path| {
            tempfile::Builder::new()
                .prefix(SOCKETS_PREFIX)
                .rand_bytes(8)
                .permissions(fs::Permissions::from_mode(0o700))
                .tempdir_in(base)
        };
        // Half of the length is for the names in the directory, e.g. a node name of 40 characters.
        let directory = match runtime.filter(|base| base.as_os_str().len() < LONGEST / 2) {
            Some(base) => make(&base).or_else(|_| make(Path::new("/tmp")))?,
            None => make(Path::new("/tmp"))?,
        };
        Ok(Self { directory })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The path of the socket `name` in this directory.
    ///
    /// # Errors
    /// Fails if the path is too long for a socket address.
    pub fn socket(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path().join(name);
        if path.as_os_str().len() > LONGEST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is longer than the {LONGEST} bytes of a socket address", path.display()),
            ));
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_goes_with_its_owner() {
        let sockets = SocketDirectory::create().unwrap();
        let path = sockets.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        std::os::unix::net::UnixListener::bind(sockets.socket("a-node").unwrap()).unwrap();
        drop(sockets);
        assert!(!path.exists());
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        let sockets = SocketDirectory::create().unwrap();
        assert!(sockets.socket(&"x".repeat(90)).is_err());
    }
}
