//! The walk of a talosctl user over a cluster (main.go), and the table of its calls in docs/reference-node.md.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use lab_programs::Build;
use serde::Deserialize;

/// One call, as the program prints it.
#[derive(Debug, Deserialize)]
struct Outcome {
    call: String,
    /// Empty if the call was answered.
    error: String,
    seconds: f64,
}

/// The built program.
pub struct Walk {
    program: PathBuf,
}

impl Walk {
    /// Builds the program. The first build takes minutes.
    pub fn build() -> Result<Self> {
        let module = Path::new("tests/walk");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("walk");
        let build = Build { module, options: &["-tags=grpcnotrace"], package: "." };
        build.write(&program).context("build tests/walk")?;
        Ok(Self { program })
    }

    /// Makes all calls with the talosconfig of a cluster, and compares the outcomes with the table.
    pub fn agrees_with_the_table(&self, talosconfig: &Path, worker: Ipv4Addr) -> Result<()> {
        let output = Command::new(&self.program)
            .arg(talosconfig)
            .arg(worker.to_string())
            .output()
            .context("run the walk")?;
        ensure!(output.status.success(), "the walk: {}", String::from_utf8_lossy(&output.stderr));
        let outcomes = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let outcomes: Vec<Outcome> =
            outcomes.map(serde_json::from_slice).collect::<Result<_, _>>().context("read the walk")?;
        let mut table = table(&std::fs::read_to_string("docs/reference-node.md")?);
        let mut wrong = Vec::new();
        for Outcome { call, error, seconds } in &outcomes {
            println!("{seconds:>7.3} s  {call}  {error}");
            match table.remove(call) {
                None => wrong.push(format!("no row of the table is about `{call}` ({error})")),
                Some(refused) if refused == error.is_empty() => {
                    let table = if refused { "refused" } else { "answered" };
                    wrong.push(format!("`{call}` is {table} by the table, and was: {error:?}"));
                }
                Some(_) => {}
            }
        }
        wrong.extend(table.keys().map(|call| format!("the walk does not make the call `{call}`")));
        ensure!(wrong.is_empty(), "docs/reference-node.md:\n{}", wrong.join("\n"));
        Ok(())
    }
}

/// The calls of the table, and whether the reference node refuses them.
fn table(text: &str) -> BTreeMap<String, bool> {
    let section = text.split("\n## ").find(|section| section.starts_with("A walk with talosctl"));
    let row = |line: &str| {
        let cells: Vec<_> = line.strip_prefix("| `")?.split(" | ").collect();
        let [call, _talos, reference] = cells[..] else { return None };
        Some((call.trim_end_matches('`').to_owned(), reference.starts_with("refused")))
    };
    section.unwrap_or_default().lines().filter_map(row).collect()
}

#[test]
fn the_table_of_the_walk_is_read_with_its_refusals() {
    let text = "\n## A walk with talosctl\n\n| call | Talos | reference node |\n| --- | --- | --- |\n\
                | `version` | answered | answered |\n| `pcap` | answered | refused: no capture |\n\
                \n## Build\n\n| `other` | x | y |\n";
    let expected = BTreeMap::from([("pcap".to_owned(), true), ("version".to_owned(), false)]);
    assert_eq!(table(text), expected);
}
