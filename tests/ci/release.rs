//! The action takes the lab from the release of its own repository, which a server on loopback plays.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use lab_model::Digest;

use super::{
    action::{Caller, images, names},
    root,
    runner::Origin,
};

const REPOSITORY: &str = "you/lab";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A release with an archive, and the server that has it.
struct Release {
    directory: tempfile::TempDir,
    server: String,
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "linux-arm64",
        _ => "linux-x86_64",
    }
}

impl Release {
    /// An archive with the lab of this build and the images of this project, by links.
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let name = format!("lab-{}-{}", version(), platform());
        let tree = directory.path().join("trees").join(&name);
        for part in ["bin", "share/lab"] {
            fs::create_dir_all(tree.join(part))?;
        }
        let program = tree.join("bin/lab");
        fs::write(&program, format!("#!/bin/sh\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_lab")))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        std::os::unix::fs::symlink(images()?, tree.join("share/lab/images"))?;
        let files =
            directory.path().join(REPOSITORY).join("releases/download").join(format!("v{}", version()));
        fs::create_dir_all(&files)?;
        let archive = files.join(format!("{name}.tar.gz"));
        let packed = Command::new("tar")
            .args([
                "-czf".as_ref(),
                archive.as_os_str(),
                "-C".as_ref(),
                directory.path().join("trees").as_os_str(),
            ])
            .arg(&name)
            .status()?;
        ensure!(packed.success(), "tar: {packed}");
        let digest = Digest::of_bytes(&fs::read(&archive)?);
        fs::write(files.join("SHA256SUMS"), format!("{}  {name}.tar.gz\n", digest.hex()))?;
        fs::write(files.join("COMMIT"), format!("{COMMIT}\n"))?;
        let server = served(directory.path().to_owned())?;
        Ok(Self { directory, server })
    }

    /// A file of the release.
    fn file(&self, name: &str) -> PathBuf {
        let release = format!("{REPOSITORY}/releases/download/v{}", version());
        self.directory.path().join(release).join(name)
    }

    fn origin(&self, reference: &str) -> Origin {
        Origin {
            server: self.server.clone(),
            repository: REPOSITORY.to_owned(),
            reference: reference.to_owned(),
        }
    }

    /// Runs the script alone. Returns its output, and the outputs of the step.
    fn asked(&self, variables: &[(&str, &str)]) -> Result<(Output, String)> {
        let work = tempfile::tempdir()?;
        let outputs = work.path().join("outputs");
        let output = Command::new(root().join("scripts/ci/release"))
            .env("LAB_SERVER", &self.server)
            .env("LAB_RELEASE", "")
            .env("LAB_BUILD", "auto")
            .envs(variables.iter().copied())
            .env("RUNNER_TEMP", work.path())
            .env("GITHUB_OUTPUT", &outputs)
            .output()?;
        Ok((output, fs::read_to_string(&outputs).unwrap_or_default()))
    }
}

/// Serves the files of a directory on loopback, until the process ends.
fn served(directory: PathBuf) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The client sees an answer that is cut.
            let _ = answer(stream, &directory);
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, directory: &Path) -> Result<()> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "the request ended early");
        request.extend_from_slice(&buffer[..length]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).context("no path")?.trim_start_matches('/');
    ensure!(!path.contains(".."), "{path}");
    let (status, body) = match fs::read(directory.join(path)) {
        Ok(body) => ("200 OK", body),
        Err(_) if path.contains("broken") => ("500 Internal Server Error", Vec::new()),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)?;
    Ok(())
}

#[test]
fn a_released_action_runs_the_lab_of_its_release() -> Result<()> {
    let release = Release::new()?;
    let mut caller = Caller::new()?;
    caller.runner.origin = release.origin(&format!("v{}", version()));
    let ran = caller.runner.run(&[("boot", "false"), ("cache", "false")])?;
    assert_eq!(ran.verdict(), "passed", "{}", ran.log);
    let steps = ["Get the release", "Set up", "Name the caches", "Build", "Check images and configs"];
    assert_eq!(names(&ran), steps, "{}", ran.log);
    assert!(ran.log.contains(&format!("lab {} from {}", version(), release.server)), "{}", ran.log);
    assert!(!ran.log.contains("Compiling") && !caller.runner.action.join("target/debug").exists());
    Ok(())
}

#[test]
fn an_archive_with_a_wrong_checksum_is_refused_and_nothing_else_runs() -> Result<()> {
    let release = Release::new()?;
    let archive = release.file(&format!("lab-{}-{}.tar.gz", version(), platform()));
    let mut bytes = fs::read(&archive)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&archive, bytes)?;
    let mut caller = Caller::new()?;
    caller.runner.origin = release.origin(&format!("refs/tags/v{}", version()));
    let ran = caller.runner.run(&[("boot", "false")])?;
    assert_eq!(ran.verdict(), "broken", "{}", ran.log);
    assert_eq!(ran.steps, [("Get the release".to_owned(), false)]);
    assert!(ran.log.contains("the archive is refused"), "{}", ran.log);
    Ok(())
}

#[test]
fn only_what_was_released_is_taken_from_the_release() -> Result<()> {
    let release = Release::new()?;
    let tag = format!("v{}", version());
    let at = |reference: &str| format!("{REPOSITORY}@{reference}");
    let (commit, other) = (at(COMMIT), at(&"f".repeat(40)));
    for (told, taken, variables) in [
        ("lab ", true, vec![("LAB_ACTION", REPOSITORY), ("LAB_ACTION_REF", &*tag)]),
        ("lab ", true, vec![("LAB_RELEASE", &*commit)]),
        ("is not the release", false, vec![("LAB_RELEASE", &*other)]),
        ("is not the release", false, vec![("LAB_ACTION", REPOSITORY), ("LAB_ACTION_REF", "main")]),
        ("has no release of its own", false, vec![]),
        ("has no release of its own", false, vec![("LAB_RELEASE", "../../etc@v1")]),
        ("always was asked for", false, vec![("LAB_BUILD", "always"), ("LAB_RELEASE", &*commit)]),
    ] {
        let (output, outputs) = release.asked(&variables)?;
        let log = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && log.contains(told), "{variables:?}: {output:?}");
        let program = outputs.lines().any(|line| line.starts_with("program=") && line.ends_with("/bin/lab"));
        assert_eq!((program, outputs.contains("images=")), (taken, taken), "{variables:?}: {outputs}");
    }
    for gone in ["COMMIT", "SHA256SUMS"] {
        fs::remove_file(release.file(gone))?;
        let (output, outputs) = release.asked(&[("LAB_RELEASE", &commit)])?;
        ensure!(output.status.success() && outputs.is_empty(), "{gone}: {output:?}");
    }
    Ok(())
}

#[test]
fn a_server_that_fails_is_no_reason_to_build() -> Result<()> {
    let release = Release::new()?;
    let reference = format!("you/broken@v{}", version());
    let (output, outputs) = release.asked(&[("LAB_RELEASE", &reference)])?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2) && outputs.is_empty(), "{output:?}");
    ensure!(told.contains("the server answered 500"), "{told}");
    let (output, _) = release.asked(&[("LAB_BUILD", "sometimes")])?;
    ensure!(String::from_utf8_lossy(&output.stderr).contains("write auto or always"), "{output:?}");
    Ok(())
}
