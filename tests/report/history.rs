//! The page of the history: what it says of runs, and how a browser shows it.

use std::{fmt::Write, fs};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{browser::Browser, fetched, lab, run_root, said};

/// A line of the history: run `number`, some hours after the one before, with results by check.
fn line(scenario: &str, number: u32, ended: &str, digest: &str, dns: &str) -> Value {
    let hours = number * 17 + number % 3 * 5;
    let wobble = f64::from(number * 7 % 11);
    let at = format!("2026-10-{:02}T{:02}:20:00Z", 1 + hours / 24, hours % 24);
    json!({
        "run": format!("{scenario}-{number}"), "title": scenario, "at": at, "scenario": scenario, "accelerator": "tcg",
        "speed_factor": 1.1, "nodes": 3, "ended": ended,
        "ready_seconds": if ended == "passed" { Some(52.0 + wobble) } else { None },
        "seconds": 140.0 + 3.0 * wobble, "steps": {},
        "checks": { "layers-green": "passed", "dns": dns, "architecture": "passed" },
        "images": { "compute": [digest] },
    })
}

/// Thirty runs of a scenario with a flaky check, ten of another that new images broke, and one of a third.
fn lines() -> Vec<Value> {
    let flaky = (0..30).map(|number| match number {
        9 | 21 => line("compute-only-cluster", number, "failed", "sha256:aa", "failed"),
        14 => line("compute-only-cluster", number, "died", "sha256:aa", "not-run"),
        _ => line("compute-only-cluster", number, "passed", "sha256:aa", "passed"),
    });
    let broken = (0..10).map(|number| match number {
        0..7 => line("mixed-role-cluster", number, "passed", "sha256:aa", "passed"),
        _ => line("mixed-role-cluster", number, "failed", "sha256:bb", "failed"),
    });
    let single = line("extension-isolation", 33, "passed", "sha256:aa", "passed");
    flaky.chain(broken).chain([single]).collect()
}

fn with_history(lines: &[Value]) -> Result<tempfile::TempDir> {
    let root = run_root()?;
    let text = lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}");
        text
    });
    fs::write(root.path().join("target/lab/history.jsonl"), text)?;
    // These two runs have a line each.
    for name in ["green-run", "red-run"] {
        fs::remove_dir_all(root.path().join("target/lab").join(name))?;
    }
    Ok(root)
}

fn page(root: &tempfile::TempDir, arguments: &[&str]) -> Result<String> {
    let all: Vec<_> = ["report", "history", "--html", "-"].iter().chain(arguments).copied().collect();
    let output = lab(root.path(), &all)?;
    ensure!(output.status.success(), "{}", said(&output));
    Ok(String::from_utf8(output.stdout)?)
}

/// The part of the page for a scenario.
fn part<'a>(page: &'a str, scenario: &str) -> Result<&'a str> {
    let part = page.split("<section").find(|part| part.contains(&format!("<h2>{scenario} ")));
    part.with_context(|| format!("no {scenario} in {page}"))
}

#[test]
fn flaky_checks_are_named_and_those_that_new_images_broke_are_not() -> Result<()> {
    let page = page(&with_history(&lines())?, &[])?;
    let flaky = part(&page, "compute-only-cluster")?;
    for words in [
        "<b>dns</b> passed in 27 and failed in 2 of these runs",
        "<b>the verdict</b> passed in 27 and failed in 2 of these runs",
        "<th>dns <span class=\"chip bad\">flaky</span></th>",
        "<th>layers-green</th>",
        "3 nodes, tcg. 30 runs.",
    ] {
        ensure!(flaky.contains(words), "no \"{words}\" in {flaky}");
    }
    let broken = part(&page, "mixed-role-cluster")?;
    ensure!(
        !broken.contains("flaky") && broken.contains("<span class=\"chip bad\">failed</span></h2>"),
        "{broken}"
    );
    // A cell for each run and check, in each of the three colours.
    let cells = |class: &str| flaky.matches(&format!("rect class=\"cell {class}\"")).count();
    ensure!((cells("good"), cells("bad"), cells("open")) == (27 * 4 + 3 * 2, 2 * 2, 2), "{flaky}");
    // 27 of 30 runs formed; all have a duration.
    let points = flaky.matches("<circle class=\"point ").count();
    ensure!(points == 27 + 30, "{points} points");
    ensure!(flaky.contains("2026-10-01 00:20 UTC: passed, 140.0 s"), "{flaky}");
    Ok(())
}

#[test]
fn a_run_is_linked_to_its_report_if_there_is_one() -> Result<()> {
    let root = with_history(&lines())?;
    let run = root.path().join("target/lab/compute-only-cluster-9");
    fs::create_dir(&run)?;
    fs::write(run.join("report.html"), "")?;
    let linked = page(&root, &["--scenario", "compute-only-cluster"])?;
    let link = "href=\"./target/lab/compute-only-cluster-9/report.html\"";
    ensure!(linked.matches(link).count() == 6, "in four strips, in the table, in a curve: {linked}");
    ensure!(linked.matches("href=\"./").count() == 6 && !linked.contains("mixed-role"), "{linked}");
    // From where the page is.
    let output = lab(root.path(), &["report", "history", "--html", "target/lab/history.html"])?;
    ensure!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
    let beside = fs::read_to_string(root.path().join("target/lab/history.html"))?;
    ensure!(beside.contains("href=\"./compute-only-cluster-9/report.html\""), "{beside}");
    Ok(())
}

/// Lines that a page must not trust.
fn hostile() -> Vec<Value> {
    let mut lines = lines();
    let text = "</title></style><script>document.title='taken'</script><img src=http://192.0.2.1/x.png>\u{1b}[31m\u{202e}";
    let mut bad = line(text, 1, "failed", "sha256:aa", "failed");
    bad["run"] = json!("../../../etc");
    bad["checks"][text] = json!("passed");
    bad["seconds"] = json!(1e300);
    bad["ready_seconds"] = json!(-5.0);
    bad["nodes"] = json!(u32::MAX);
    lines.push(bad);
    let mut far = line("far", 1, "passed", "sha256:aa", "passed");
    far["at"] = json!("9999-12-30T00:00:00Z");
    lines.push(far.clone());
    far["at"] = json!("-009998-01-01T00:00:00Z");
    lines.push(far);
    lines
}

#[test]
fn nothing_of_a_history_is_markup_and_no_line_is_too_much() -> Result<()> {
    let root = with_history(&hostile())?;
    let file = root.path().join("target/lab/history.jsonl");
    let mut text = fs::read(&file)?;
    text.extend(b"{\"run\": \"torn\xff\n\n[1]\n");
    fs::write(&file, &text)?;
    let page = page(&root, &[])?;
    ensure!(!page.contains("<script") && !page.contains("<img"), "{page}");
    ensure!(!page.contains(['\u{1b}', '\u{202e}']) && page.contains("&lt;script&gt;"), "{page}");
    ensure!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    ensure!(fetched(&page).is_empty() && page.contains("script-src 'none'"), "{:?}", fetched(&page));
    // The end of a file without end is read.
    let mut long = vec![b'x'; 40 << 20];
    long.push(b'\n');
    long.extend(text);
    fs::write(&file, long)?;
    ensure!(page == self::page(&root, &[])?);
    Ok(())
}

#[tokio::test]
async fn a_browser_shows_the_history_on_a_phone_and_on_a_desk() -> Result<()> {
    let browser = Browser::find()?;
    let shown = page(&with_history(&lines())?, &[])?;
    let hostile = page(&with_history(&hostile())?, &[])?;
    for width in [390, 1280] {
        for (name, page) in [("history", &shown), ("history-hostile", &hostile)] {
            let seen = browser.look(name, page, width, 2400).await?;
            let who = format!("{name} at {width} px");
            ensure!(seen.problems.is_empty() && seen.requests.is_empty(), "{who}: {seen:?}");
            ensure!(seen.title == "History of the lab", "{who}: {}", seen.title);
            ensure!(seen.scroll_width <= seen.width, "{who}: the page is {} px wide", seen.scroll_width);
            ensure!(seen.picture > super::BLANK, "{who}: {} bytes", seen.picture);
            for (part, height) in [
                ("header#verdict", 80.0),
                ("nav", 40.0),
                (".card.trend svg.drawing", 240.0),
                (".card.flaky", 60.0),
            ] {
                let found = seen.boxes.get(part).filter(|found| !found.is_empty());
                for found in found.with_context(|| format!("{who}: no {part}"))? {
                    ensure!(
                        found.height >= height && found.width >= f64::from(width) * 0.3,
                        "{who}: {part}: {found:?}"
                    );
                }
            }
            let strips = &seen.boxes[".card.results svg"];
            ensure!(strips.len() >= 12 && strips[0].height == 16.0, "{who}: {strips:?}");
        }
    }
    Ok(())
}

#[test]
fn without_a_run_the_page_says_so() -> Result<()> {
    let root = tempfile::tempdir()?;
    ensure!(page(&root, &[])?.contains("No scenario has been run."));
    let both = lab(root.path(), &["report", "history", "--html", "-", "--json"])?;
    ensure!(both.status.code() == Some(2) && said(&both).contains("cannot be used with"), "{}", said(&both));
    Ok(())
}
