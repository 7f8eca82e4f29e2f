//! The page of a run in a browser, here a program that says how it was started.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};

use super::{run_root, said};

/// Says its arguments, its process group, and what it can read and write.
const BROWSER: &str = r#"#!/bin/sh
files=$(for number in 0 1 2; do readlink "/proc/$$/fd/$number"; done)
{
  for word in "$@"; do printf '[%s]\n' "$word"; done
  printf 'group %s\n' "$(ps -o pgid= -p $$ | tr -d ' ')"
  printf '%s\n' "$files"
} >"$SEEN.part"
mv "$SEEN.part" "$SEEN"
"#;

struct Desk {
    root: tempfile::TempDir,
    seen: PathBuf,
}

impl Desk {
    fn new() -> Result<Self> {
        let root = run_root()?;
        let seen = root.path().join("seen");
        fs::create_dir(root.path().join("bin"))?;
        Ok(Self { root, seen })
    }

    fn program(&self, name: &str, script: &str) -> Result<PathBuf> {
        let path = self.root.path().join("bin").join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// Runs the lab with the programs of this desk first.
    fn lab(&self, browser: Option<&str>, arguments: &[&str]) -> Result<Output> {
        let path = format!("{}:/usr/bin:/bin", self.root.path().join("bin").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.current_dir(self.root.path()).args(arguments).env("PATH", path).env("SEEN", &self.seen);
        command.env_remove("BROWSER").stdin(Stdio::null());
        command.envs(browser.map(|browser| ("BROWSER", browser)));
        command.output().context("running lab")
    }

    /// What the browser said, once it did.
    fn said(&self) -> Result<String> {
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            match fs::read_to_string(&self.seen) {
                Ok(text) => {
                    fs::remove_file(&self.seen)?;
                    return Ok(text);
                }
                Err(error) => ensure!(Instant::now() < limit, "no browser was started: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn page(&self, run: &str) -> Result<PathBuf> {
        Ok(fs::canonicalize(self.root.path().join("target/lab").join(run))?.join("report.html"))
    }
}

#[test]
fn the_page_of_the_newest_or_a_named_run_is_written_and_opened() -> Result<()> {
    let desk = Desk::new()?;
    let browser = desk.program("browser", BROWSER)?.display().to_string();
    for (arguments, run) in [
        (&["report", "--open"][..], "red-run"),
        (&["report", "open"], "red-run"),
        (&["report", "open", "green"], "green-run"),
        (&["report", "open", "target/lab/green-run/events.jsonl"], "green-run"),
    ] {
        let output = desk.lab(Some(&browser), arguments)?;
        let page = desk.page(run)?;
        ensure!(
            output.status.success() && said(&output) == format!("{}\n", page.display()),
            "{}",
            said(&output)
        );
        ensure!(fs::read_to_string(&page)?.contains("<header id=\"verdict\""), "{arguments:?}");
        let told = desk.said()?;
        ensure!(told.starts_with(&format!("[{}]\ngroup ", page.display())), "{told}");
        // Neither the terminal nor the pipe of whoever started the lab.
        ensure!(told.ends_with("/dev/null\n/dev/null\n/dev/null\n"), "{told}");
        let own = Command::new("ps").args(["-o", "pgid=", "-p", &std::process::id().to_string()]).output()?;
        ensure!(!told.contains(&format!("group {}\n", String::from_utf8(own.stdout)?.trim())), "{told}");
    }
    Ok(())
}

#[test]
fn a_page_that_is_there_is_kept_unless_the_recording_is_newer() -> Result<()> {
    let desk = Desk::new()?;
    let browser = desk.program("browser", BROWSER)?.display().to_string();
    let page = desk.page("green-run")?;
    fs::write(&page, "as it was")?;
    let open = || desk.lab(Some(&browser), &["report", "open", "green"]);
    open()?;
    ensure!(fs::read_to_string(&page)? == "as it was");
    let past = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(&page)?.set_modified(past)?;
    open()?;
    ensure!(
        fs::read_to_string(&page)?.contains("<header id=\"verdict\""),
        "an old page of a run that went on"
    );
    Ok(())
}

#[test]
fn a_path_is_one_argument_and_no_text_of_a_shell() -> Result<()> {
    let desk = Desk::new()?;
    desk.program("browser", BROWSER)?;
    let name = "a run; touch owned; $(touch owned) `touch owned` %s";
    fs::rename(
        desk.root.path().join("target/lab/green-run"),
        desk.root.path().join("target/lab").join(name),
    )?;
    let output = desk.lab(Some("browser --new:browser --other"), &["report", "open", "a run"])?;
    ensure!(output.status.success(), "{}", said(&output));
    let told = desk.said()?;
    ensure!(told.starts_with(&format!("[--new]\n[{}]\n", desk.page(name)?.display())), "{told}");
    ensure!(!desk.root.path().join("owned").exists());
    Ok(())
}

#[test]
fn the_next_command_is_tried_and_the_opener_of_the_system_is_last() -> Result<()> {
    let desk = Desk::new()?;
    desk.program("fails", "#!/bin/sh\nexit 3\n")?;
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    desk.program(opener, BROWSER)?;
    for browser in [None, Some(""), Some("fails:no-such-browser")] {
        let output = desk.lab(browser, &["report", "--open"])?;
        ensure!(output.status.success(), "{}", said(&output));
        ensure!(desk.said()?.starts_with(&format!("[{}]\n", desk.page("red-run")?.display())));
    }
    desk.program(opener, "#!/bin/sh\nexit 4\n")?;
    let output = desk.lab(Some("fails:no-such-browser"), &["report", "--open"])?;
    let (told, page) = (said(&output), desk.page("red-run")?);
    ensure!(output.status.code() == Some(3) && page.is_file(), "{told}");
    for words in [
        format!("{}\n", page.display()),
        "fails: exit status: 3".to_owned(),
        "no-such-browser: No such file".to_owned(),
        format!("{opener}: exit status: 4"),
        format!("open {} yourself", page.display()),
    ] {
        ensure!(told.contains(&words), "no \"{words}\" in: {told}");
    }
    Ok(())
}

/// A browser goes on when the lab has ended, and nothing else does.
#[test]
fn a_browser_that_stays_is_not_waited_for() -> Result<()> {
    let desk = Desk::new()?;
    desk.program(
        "stays",
        "#!/bin/sh\nprintf '%s' $$ >\"$SEEN.part\"\nmv \"$SEEN.part\" \"$SEEN\"\nexec sleep 300\n",
    )?;
    let begun = Instant::now();
    let output = desk.lab(Some("stays"), &["report", "--open"])?;
    let took = begun.elapsed();
    let id = desk.said()?;
    let ended = Command::new("kill").arg(&id).status()?;
    ensure!(output.status.success() && took < Duration::from_secs(60), "{took:?}: {}", said(&output));
    ensure!(ended.success(), "the browser had ended with the lab");
    Ok(())
}

#[test]
fn what_has_no_page_is_refused() -> Result<()> {
    let desk = Desk::new()?;
    fs::copy(
        desk.root.path().join("target/lab/green-run/events.jsonl"),
        desk.root.path().join("copy.jsonl"),
    )?;
    for (arguments, told) in [
        (&["report", "open", "nothing"][..], "`lab report history` lists runs"),
        (&["report", "open", "copy.jsonl"], "`lab report show RUN --html FILE`"),
        (&["report", "--open", "show"], "cannot be used with"),
    ] {
        let output = desk.lab(Some("true"), arguments)?;
        ensure!(
            output.status.code() == Some(2) && said(&output).contains(told),
            "{arguments:?}: {}",
            said(&output)
        );
    }
    let help = desk.lab(None, &["report"])?;
    ensure!(help.status.code() == Some(2) && said(&help).contains("lab report"), "{}", said(&help));
    ensure!(!Path::new(&desk.seen).exists());
    Ok(())
}
