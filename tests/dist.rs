//! The release archive: staged from this build, it runs in an empty directory, with an empty environment, without Go and
//! without the project. Nothing boots.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The directory of an archive.
struct Archive {
    tree: PathBuf,
}

/// A place outside of every project, whose PATH has QEMU and nothing else.
struct Outside {
    directory: tempfile::TempDir,
}

impl Archive {
    /// The archive of this build, staged once for all tests.
    fn staged() -> Result<Self> {
        static STAGED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let staged = STAGED.get_or_init(|| stage().map_err(|error| format!("{error:#}")));
        Ok(Self { tree: staged.clone().map_err(anyhow::Error::msg)? })
    }

    /// A copy by hard links. Whoever changes a file removes it first.
    fn copy(&self) -> Result<(tempfile::TempDir, Self)> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let tree = directory.path().join("lab");
        let copied = Command::new("cp").arg("-al").args([&self.tree, &tree]).status()?;
        ensure!(copied.success(), "cp: {copied}");
        Ok((directory, Self { tree }))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.tree.join(name)
    }

    /// Runs its lab in an empty directory with an empty environment.
    fn lab(&self, arguments: &[&str]) -> Result<Output> {
        self.lab_in(&Outside::new()?, arguments)
    }

    fn lab_in(&self, outside: &Outside, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.file("bin/lab"));
        command.args(arguments).current_dir(outside.path("work")).env_clear();
        command.env("HOME", outside.path("home")).env("PATH", outside.path("path"));
        Ok(command.output()?)
    }
}

impl Outside {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        for name in ["work", "home", "path"] {
            fs::create_dir(directory.path().join(name))?;
        }
        let qemu = "qemu-system-aarch64";
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|path| path.join(qemu))
            .find(|file| file.is_file())
            .context("QEMU is not installed")?;
        symlink(found, directory.path().join("path").join(qemu))?;
        Ok(Self { directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn stage() -> Result<PathBuf> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dist");
    let output = Command::new(root().join("scripts/dist"))
        .args(["--program", env!("CARGO_BIN_EXE_lab"), "--stage-only", "--out"])
        .arg(&out)
        .output()?;
    ensure!(output.status.success(), "scripts/dist: {}", said(&output));
    let start = format!("lab-{}-", env!("CARGO_PKG_VERSION"));
    let tree =
        fs::read_dir(&out)?.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with(&start));
    Ok(tree.context("scripts/dist left no directory")?.path())
}

#[test]
fn the_version_names_the_images_that_would_be_used() -> Result<()> {
    let archive = Archive::staged()?;
    let short = archive.lab(&["-V"])?;
    assert_eq!(said(&short), format!("lab {}\n", env!("CARGO_PKG_VERSION")));
    let long = archive.lab(&["--version"])?;
    let text = said(&long);
    ensure!(long.status.success() && text.starts_with(&said(&short)), "{text}");
    ensure!(text.contains(&format!("images: {}\n", archive.file("share/lab/images").display())), "{text}");
    for name in ["compute", "gateway", "workloads"] {
        let line = text.lines().find(|line| line.starts_with(name)).context(name)?;
        ensure!(line.contains(" sha256:"), "{line}");
    }
    Ok(())
}

#[test]
fn it_finds_everything_in_any_directory_without_go_and_leaves_nothing_behind() -> Result<()> {
    let (archive, outside) = (Archive::staged()?, Outside::new()?);
    let doctor = said(&archive.lab_in(&outside, &["doctor"])?);
    let images =
        doctor.lines().find(|line| line.contains("images of the reference node")).context("no finding")?;
    ensure!(images.starts_with('✅') && images.ends_with("share/lab/images, as released"), "{doctor}");
    ensure!(doctor.contains(&outside.path("home/.local/state/lab").display().to_string()), "{doctor}");

    let plan = archive.lab_in(&outside, &["run", "--dry-run", "01", "03"])?;
    ensure!(plan.status.success(), "{}", said(&plan));
    let digest = said(&archive.lab(&["--version"])?);
    let digest =
        digest.lines().find_map(|line| line.strip_prefix("compute").map(str::trim)).context("digest")?;
    ensure!(said(&plan).contains(digest), "the plan has another image than {digest}");

    let programs = archive.lab_in(&outside, &["image", "programs"])?;
    let listed = said(&programs);
    ensure!(programs.status.success() && listed.lines().count() >= 6, "{listed}");
    let shipped = archive.file("share/lab/images").display().to_string();
    ensure!(listed.lines().all(|line| line.starts_with(&shipped)), "{listed}");

    fs::write(outside.path("work/a.yaml"), "machine: { network: { hostname: a } }\n")?;
    let checked = said(&archive.lab_in(&outside, &["config", "check", "a.yaml"])?);
    ensure!(checked.contains("judged by its own library"), "{checked}");

    let left: Vec<_> = fs::read_dir(outside.path("work"))?.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["a.yaml"], "the working directory is no place for runs");
    Ok(())
}

#[test]
fn a_file_that_is_missing_or_changed_is_named() -> Result<()> {
    let (_directory, archive) = Archive::staged()?.copy()?;
    let kernel = archive.file("share/lab/images/compute/boot/vmlinuz");
    let bytes = fs::read(&kernel)?;
    fs::remove_file(&kernel)?;
    for arguments in [&["doctor"][..], &["run", "--dry-run", "01"], &["--version"]] {
        let told = said(&archive.lab(arguments)?);
        ensure!(told.contains("compute"), "{arguments:?}: {told}");
        ensure!(told.contains("vmlinuz"), "{arguments:?}: {told}");
    }
    assert_eq!(archive.lab(&["doctor"])?.status.code(), Some(3));

    let changed: Vec<u8> = bytes.iter().copied().chain([0]).collect();
    fs::write(&kernel, changed)?;
    for arguments in [&["doctor"][..], &["run", "--dry-run", "01"]] {
        let output = archive.lab(arguments)?;
        let told = said(&output);
        ensure!(
            !output.status.success() && told.contains("boot/vmlinuz has sha256:"),
            "{arguments:?}: {told}"
        );
    }
    fs::write(&kernel, bytes)?;
    ensure!(said(&archive.lab(&["doctor"])?).contains("as released"));

    let program = archive.file("share/lab/images/tailnet/headscale");
    fs::remove_file(&program)?;
    fs::write(&program, "another program")?;
    let told = said(&archive.lab(&["doctor"])?);
    ensure!(told.contains("images/tailnet/headscale has sha256:"), "{told}");
    ensure!(told.contains("unpack the release archive again"), "{told}");
    Ok(())
}

#[test]
fn a_program_that_is_missing_is_told_with_go_and_the_archive_as_remedies() -> Result<()> {
    let (_directory, archive) = Archive::staged()?.copy()?;
    let validators = archive.file("share/lab/images/validator");
    fs::remove_file(archive.file("share/lab/images/tailnet/tailscale"))?;
    fs::remove_dir_all(validators)?;
    for which in ["tailnet", "config-check"] {
        let output = archive.lab(&["image", "programs", which])?;
        let told = said(&output);
        ensure!(!output.status.success() && told.lines().count() <= 2, "{told}");
        ensure!(told.contains("Go, which builds") && told.contains("is not installed"), "{told}");
        ensure!(told.contains("release archive of the lab, which contains"), "{told}");
    }
    Ok(())
}

#[test]
fn without_images_the_lab_says_what_to_do() -> Result<()> {
    let (_directory, archive) = Archive::staged()?.copy()?;
    fs::remove_dir_all(archive.file("share/lab"))?;
    let output = archive.lab(&["run", "01"])?;
    let told = said(&output);
    ensure!(output.status.code() == Some(2), "{told}");
    for word in ["there are no images", "share/lab/images", "release archive", "make images", "--images"] {
        ensure!(told.contains(word), "{word}: {told}");
    }
    ensure!(said(&archive.lab(&["--version"])?).contains("images: none"));
    Ok(())
}

#[test]
fn the_checksums_cover_every_file() -> Result<()> {
    let archive = Archive::staged()?;
    let listed = fs::read_to_string(archive.file("SHA256SUMS"))?;
    let mut listed: Vec<_> =
        listed.lines().filter_map(|line| line.split_once("  ")).map(|(_, file)| file).collect();
    let mut files: Vec<_> = walkdir::WalkDir::new(&archive.tree)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(&archive.tree).map(|path| path.display().to_string()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| file != "SHA256SUMS");
    listed.sort_unstable();
    files.sort_unstable();
    assert_eq!(listed, files);
    let checked = Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(&archive.tree)
        .output()?;
    ensure!(checked.status.success(), "{}", said(&checked));
    Ok(())
}

#[test]
fn the_archive_lists_what_it_contains() -> Result<()> {
    let archive = Archive::staged()?;
    let bill: Value =
        serde_json::from_str(&fs::read_to_string(archive.file("share/doc/lab/sbom.cdx.json"))?)?;
    assert_eq!(lab_inventory::faults(&bill), Vec::<String>::new());
    let purls: Vec<_> = bill["components"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|component| component["purl"].as_str())
        .collect();
    for start in [
        "pkg:cargo/tokio@",
        "pkg:golang/github.com/juanfont/headscale@",
        "pkg:golang/github.com/siderolabs/talos/pkg/machinery@",
        "pkg:golang/k8s.io/kubernetes@",
        "pkg:golang/github.com/coredns/coredns@",
        "pkg:golang/stdlib@",
        "pkg:deb/debian/containerd@",
        "pkg:deb/debian/libc6-dev@",
    ] {
        ensure!(purls.iter().any(|purl| purl.starts_with(start)), "no component is {start}");
    }
    // What runs in the compiler or in tests alone is not in the archive.
    for start in ["pkg:cargo/insta@", "pkg:cargo/clap_derive@", "pkg:cargo/lab@"] {
        ensure!(!purls.iter().any(|purl| purl.starts_with(start)), "{start} is a component");
    }
    let licences = fs::read_to_string(archive.file("share/doc/lab/licences.txt"))?;
    for text in [
        "Permission is hereby granted, free of charge",
        "Mozilla Public License",
        "GNU GENERAL PUBLIC LICENSE",
    ] {
        ensure!(licences.contains(text), "licences.txt lacks: {text}");
    }
    Ok(())
}

#[test]
fn completions_and_manual_pages_are_there() -> Result<()> {
    let archive = Archive::staged()?;
    for (file, word) in [
        ("share/bash-completion/completions/lab", "complete -F _lab"),
        ("share/zsh/site-functions/_lab", "#compdef lab"),
        ("share/fish/vendor_completions.d/lab.fish", "complete -c lab"),
        ("share/man/man1/lab.1", ".TH"),
        ("share/man/man1/lab-run.1", "\\-\\-dry\\-run"),
        ("share/doc/lab/LICENSE", "Apache License"),
    ] {
        let text = fs::read_to_string(archive.file(file)).with_context(|| file.to_owned())?;
        ensure!(text.contains(word), "{file} has no {word}");
    }
    Ok(())
}

/// A directory like that of an archive, and small.
fn small(directory: &Path) -> Result<PathBuf> {
    let tree = directory.join("lab-9.9.9-linux-x86_64");
    for name in [
        "bin/lab",
        "share/lab/images/compute/boot/vmlinuz",
        "share/man/man1/lab.1",
        "share/doc/lab/LICENSE",
        "share/doc/lab/licences.txt",
        "share/doc/lab/sbom.cdx.json",
        "share/bash-completion/completions/lab",
        "share/zsh/site-functions/_lab",
        "share/fish/vendor_completions.d/lab.fish",
    ] {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().context("parent")?)?;
        fs::write(path, name)?;
    }
    Ok(tree)
}

#[test]
fn the_same_files_are_packed_to_the_same_bytes() -> Result<()> {
    let packed = |pause: bool| {
        let directory = tempfile::tempdir()?;
        let tree = small(directory.path())?;
        if pause {
            // Another time, and another order in the directory.
            fs::remove_file(tree.join("bin/lab"))?;
            fs::write(tree.join("bin/lab"), "bin/lab")?;
            let touched =
                Command::new("touch").args(["-d", "2001-01-01"]).arg(tree.join("bin/lab")).status()?;
            ensure!(touched.success(), "touch: {touched}");
        }
        let output = Command::new(root().join("scripts/dist-pack"))
            .args([tree.as_os_str(), "9.9.9".as_ref(), directory.path().as_os_str()])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()?;
        ensure!(output.status.success(), "{}", said(&output));
        let names = fs::read_to_string(directory.path().join("SHA256SUMS"))?;
        ensure!(names.contains("lab-9.9.9-linux-x86_64.tar.gz") && names.contains(".deb"), "{names}");
        Ok((names, directory))
    };
    let ((first, directory), (second, _)) = (packed(false)?, packed(true)?);
    assert_eq!(first, second);
    let package = fs::read_dir(directory.path())?.flatten().map(|entry| entry.path());
    let package = package
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .context("package")?;
    let fields = said(&Command::new("dpkg-deb").arg("--field").arg(&package).output()?);
    ensure!(fields.contains("Depends: qemu-system-arm") && fields.contains("ca-certificates"), "{fields}");
    let files = said(&Command::new("dpkg-deb").arg("--contents").arg(&package).output()?);
    for name in
        ["./usr/bin/lab", "./usr/share/lab/images/compute/boot/vmlinuz", "./usr/share/man/man1/lab.1.gz"]
    {
        ensure!(files.contains(name), "{name}: {files}");
    }
    ensure!(files.lines().all(|line| line.contains("root/root")), "{files}");
    Ok(())
}

#[test]
fn the_formula_has_the_checksum_of_each_archive_and_no_placeholder() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let formula = || {
        let output = Command::new(root().join("scripts/dist-formula"))
            .arg(directory.path())
            .arg("you/lab")
            .output()?;
        Ok::<_, anyhow::Error>((output.status.success(), said(&output)))
    };
    let (made, told) = formula()?;
    ensure!(!made && told.contains("has no archive of version"), "{told}");
    let version = env!("CARGO_PKG_VERSION");
    for platform in ["macos-arm64", "linux-x86_64"] {
        fs::write(directory.path().join(format!("lab-{version}-{platform}.tar.gz")), platform)?;
    }
    let (made, text) = formula()?;
    ensure!(made && !text.contains('@'), "{text}");
    for platform in ["macos-arm64", "linux-x86_64"] {
        let digest = lab_model::Digest::of_bytes(platform.as_bytes());
        let url = format!(
            "https://github.com/you/lab/releases/download/v{version}/lab-{version}-{platform}.tar.gz"
        );
        ensure!(text.contains(&digest.hex()) && text.contains(&url), "{platform}: {text}");
    }
    ensure!(text.contains("depends_on \"qemu\"") && !text.contains("linux-arm64"), "{text}");
    Ok(())
}
