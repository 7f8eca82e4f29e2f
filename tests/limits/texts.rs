//! Worst inputs for the readers of texts: scenarios, machine configs, lock files, recordings.

use std::{fmt::Write as _, path::Path};

use anyhow::Result;

use super::{Case, put, words};

const MIB: usize = 1 << 20;

pub const CASES: &[Case] = &[
    Case {
        reader: "scenario file",
        input: "4 MiB of values",
        prepare: |work| scenario(work, "0,", 4 * MIB),
        ends: "large.yaml",
        declared: 0,
    },
    Case {
        reader: "scenario file",
        input: "nested aliases",
        prepare: aliases,
        ends: "large.yaml",
        declared: 0,
    },
    Case {
        reader: "lock file",
        input: "1 MiB of pins",
        prepare: lock,
        ends: "is not a sha256 digest",
        declared: 0,
    },
    Case {
        reader: "machine config",
        input: "14 MiB, 20,000 keys",
        prepare: config,
        ends: "1 files, 0 errors",
        declared: 0,
    },
    Case {
        reader: "recording",
        input: "500,000 events, all reports",
        prepare: |work| recording(work, 499_990, ""),
        ends: "",
        declared: 128 << 20,
    },
    Case {
        reader: "recording",
        input: "16 MiB of text, all reports",
        prepare: |work| recording(work, 8_000, &"x".repeat(2000)),
        ends: "",
        declared: 128 << 20,
    },
    Case {
        reader: "recordings that are joined",
        input: "eight of 30 MiB",
        prepare: shards,
        ends: "exceeds the limits of a recording",
        declared: 128 << 20,
    },
];

fn scenario(work: &Path, value: &str, size: usize) -> Result<Vec<String>> {
    let values = value.repeat(size / value.len() - 100);
    put(work, "large.yaml", format!("name: large\nx: [{values}0]\n"))?;
    Ok(words("run --dry-run ./large.yaml"))
}

/// Each list has the one before it many times.
fn aliases(work: &Path) -> Result<Vec<String>> {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        writeln!(text, "a{level}: &a{level} [{below}x]")?;
    }
    put(work, "large.yaml", text)?;
    Ok(words("run --dry-run ./large.yaml"))
}

fn lock(work: &Path) -> Result<Vec<String>> {
    let mut text = "images:\n".to_owned();
    while text.len() < MIB - 200 {
        let number = text.len();
        writeln!(text, "  ghcr.io/a/b{number}:v1: {{digest: x, pinned: 2026-01-01T00:00:00Z}}")?;
    }
    put(work, "images.lock.yaml", text)?;
    Ok(words("image inspect ghcr.io/a/b:v1"))
}

fn config(work: &Path) -> Result<Vec<String>> {
    let mut text = "version: v1alpha1\nmachine:\n  type: worker\n  sysctls:\n".to_owned();
    let value = "v".repeat(700);
    for number in 0..20_000 {
        writeln!(text, "    k{number}: {value}")?;
    }
    put(work, "large.yaml", text)?;
    // The tables of keys, and not Talos' own program, which is no reader of the lab.
    Ok(words("config check large.yaml --images none"))
}

/// A recording of a run, whose lines are as short as they can be but for a text.
fn lines(run: &str, shard: Option<usize>, count: usize, text: &str) -> Result<String> {
    let shard = shard.map_or_else(String::new, |number| {
        format!(r#","shard":{{"number":"{number}/8","of_scenarios":["a"]}}"#)
    });
    let mut lines = format!(
        "{{\"seq\":0,\"t\":0.0,\"event\":\"run-started\",\"run\":\"{run}\",\"title\":\"a\",\"wall\":\"2026-01-01T00:00:00Z\"{shard}}}\n"
    );
    for seq in 1..count {
        writeln!(
            lines,
            "{{\"seq\":{seq},\"t\":0.0,\"event\":\"console\",\"node\":\"a\",\"line\":\"{text}\"}}"
        )?;
    }
    Ok(lines)
}

fn recording(work: &Path, count: usize, text: &str) -> Result<Vec<String>> {
    put(work, "run/events.jsonl", lines("a", None, count, text)?)?;
    Ok(words(
        "report show run --html out.html --junit out.xml --trace out.json --markdown out.md --text out.txt",
    ))
}

fn shards(work: &Path) -> Result<Vec<String>> {
    let mut arguments = words("report merge --out joined");
    for number in 1..=8 {
        let name = format!("shard-{number}");
        put(work, &format!("{name}/events.jsonl"), lines(&name, Some(number), 15_000, &"x".repeat(2000))?)?;
        arguments.push(name);
    }
    Ok(arguments)
}
