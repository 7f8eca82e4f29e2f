//! A real browser without a window, that says what it saw of a page.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

/// Names under which it is installed.
const PROGRAMS: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
/// How long it may take for one page; two seconds on an idle host.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs in the page before its content security policy is read: notes what goes wrong, measures what
/// is shown, and tries what the page's own script does.
const PROBE: &str = r##"<script>
(() => {
  const problems = [];
  addEventListener("error", (event) => problems.push(event.message || `cannot load ${event.target.tagName}`), true);
  addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
  addEventListener("securitypolicyviolation", (event) => problems.push(`refused ${event.blockedURI} by ${event.violatedDirective}`));
  for (const name of ["error", "warn"]) {
    const say = console[name];
    console[name] = (...words) => { problems.push(words.join(" ")); say.apply(console, words); };
  }
  addEventListener("load", () => {
    const boxes = {};
    for (const part of PARTS) {
      boxes[part] = [...document.querySelectorAll(part)].map((element) => {
        const box = element.getBoundingClientRect();
        return { width: box.width, height: box.height };
      });
    }
    const root = document.documentElement;
    const [width, scroll_width] = [innerWidth, root.scrollWidth];
    const drawing = document.querySelector(".card.course svg.drawing");
    const unwidened = drawing?.getBoundingClientRect().width ?? 0;
    document.querySelector('.card.course .tools button[title="show less time"]')?.click();
    const widened = drawing?.getBoundingClientRect().width ?? 0;
    document.querySelector('.card.course .tools button[title="show all"]')?.click();
    const marks = [...document.querySelectorAll(".card.course svg.drawing a")];
    const mark = marks.find((mark) => mark.getAttribute("href").startsWith("#e0-1-"));
    mark?.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
    const chosen = document.querySelector(".rows tr.chosen")?.textContent ?? "";
    const requests = performance.getEntriesByType("resource").map((entry) => entry.name);
    for (const events of document.querySelectorAll("details.events")) events.open = false;
    parent.postMessage({ problems, boxes, width, scroll_width, unwidened, widened, chosen, requests, title: document.title }, "*");
  });
})();
</script>"##;

/// The window around the page: a browser's own is not made as narrow as a phone.
const WINDOW: &str = r#"<!DOCTYPE html><meta charset="utf-8"><style>body { margin: 0; } iframe { border: 0; display: block; }</style>
<script>addEventListener("message", (event) => {
  const out = document.createElement("pre");
  out.id = "seen";
  out.hidden = true;
  out.textContent = encodeURIComponent(JSON.stringify(event.data));
  document.body.append(out);
});</script>"#;

/// What is measured.
const PARTS: &str = r##"["header#verdict", "#environment", "#known", "#criteria", "nav", "footer", ".card.cluster svg.topology",
  ".card.checks", ".card.course svg.drawing", ".card.readiness svg.drawing", ".card.resources svg.drawing",
  ".card.course .events", ".card.network", ".card.routes", ".card.trend svg.drawing", ".card.results svg", ".card.flaky",
  ".card.runs table"]"##;

/// A browser.
pub struct Browser {
    program: PathBuf,
}

/// What it saw of a page.
#[derive(Debug, Deserialize)]
pub struct Seen {
    /// Errors of scripts, refused loads, warnings.
    pub problems: Vec<String>,
    /// Sizes of what a selector finds.
    pub boxes: BTreeMap<String, Vec<Size>>,
    /// Of the window, CSS pixels.
    pub width: f64,
    /// Of the page; more than the window means that it must be scrolled sideways.
    pub scroll_width: f64,
    /// Of the first chart.
    pub unwidened: f64,
    /// Of the first chart after a click on "+".
    pub widened: f64,
    /// The row that a click on a mark chose.
    pub chosen: String,
    /// Everything that was asked for beside the page itself.
    pub requests: Vec<String>,
    /// The page's title.
    pub title: String,
    /// Bytes of the picture; one of a single colour has next to none.
    #[serde(default)]
    pub picture: u64,
}

/// Width and height in CSS pixels.
#[derive(Debug, Deserialize)]
pub struct Size {
    pub width: f64,
    pub height: f64,
}

impl Browser {
    /// The installed browser.
    pub fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories: Vec<_> = std::env::split_paths(&path).collect();
        let places =
            PROGRAMS.iter().flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
        let program = places.into_iter().find(|place| place.is_file()).context(
            "no Chromium and no Google Chrome on PATH: install the package chromium (scripts/setup --for-tests does on \
             Debian), or Google Chrome where the distribution has Chromium as a snap only",
        )?;
        Ok(Self { program })
    }

    /// Shows a page in a window of this size, leaves a picture as `report-NAME-WIDTH.png`, and
    /// says what was seen.
    pub async fn look(&self, name: &str, html: &str, width: u32, height: u32) -> Result<Seen> {
        let directory = tempfile::tempdir()?;
        let (page, window) = (directory.path().join("page.html"), directory.path().join("window.html"));
        let probe = PROBE.replace("PARTS", PARTS);
        ensure!(html.contains("<head>"), "{name}: a page without a head");
        fs::write(&page, html.replacen("<head>", &format!("<head>{probe}"), 1))?;
        fs::write(
            &window,
            format!("{WINDOW}<iframe src=\"page.html\" width=\"{width}\" height=\"{height}\"></iframe>"),
        )?;
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{name}-{width}.png"));
        let _ = fs::remove_file(&picture);
        let mut command = Command::new(&self.program);
        command
            // Root, which tests in containers run as, has no sandbox; the page is the test's own.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-dev-shm-usage",
            ])
            .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("--screenshot={}", picture.display()))
            .args(["--virtual-time-budget=5000", "--dump-dom"])
            .arg(format!("file://{}", window.display()))
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .with_context(|| format!("{name}: {} did not end within {PATIENCE:?}", self.program.display()))?
            .with_context(|| format!("running {}", self.program.display()))?;
        let dom = String::from_utf8_lossy(&output.stdout);
        let said =
            || format!("{name}: {} says {}", self.program.display(), String::from_utf8_lossy(&output.stderr));
        let seen = dom.split("<pre id=\"seen\" hidden=\"\">").nth(1).and_then(|rest| rest.split('<').next());
        let seen = decoded(seen.with_context(said)?)?;
        ensure!(is_picture(&picture, width, height), "{}; no picture in {}", said(), picture.display());
        Ok(Seen { picture: fs::metadata(&picture)?.len(), ..serde_json::from_str(&seen)? })
    }
}

/// Undoes `encodeURIComponent`.
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().context("digits")?, rest.next().context("digits")?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?);
        } else {
            bytes.push(byte);
        }
    }
    Ok(String::from_utf8(bytes)?)
}

/// A PNG of this size.
fn is_picture(path: &Path, width: u32, height: u32) -> bool {
    let Ok(bytes) = fs::read(path) else { return false };
    let number = |at: usize| {
        bytes.get(at..at + 4).map(|four| four.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    };
    bytes.starts_with(b"\x89PNG") && (number(16), number(20)) == (Some(width), Some(height))
}
