//! Nodes that form at once on too little host starve their control plane; in the order that the lab chooses they form.
//! Both at the same time, each on one core.
#![cfg(target_os = "linux")]

#[path = "support/command.rs"]
mod command;
#[path = "support/run_root.rs"]
mod run_root;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use command::{built, said};
use run_root::run_root;

/// A core for each cluster: the first and the last that this process may use.
fn cores() -> Result<[String; 2]> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut ends =
        allowed.context("the kernel does not tell which cores there are")?.trim().split(['-', ',']);
    let first = ends.next().context("no core")?.to_owned();
    let last = ends.next_back().unwrap_or(&first).to_owned();
    Ok([first, last])
}

/// `lab run`, which then sees one core, as all that it starts does.
/// Its run root is its own, so that it measures for itself how fast the core is.
fn run_on(core: &str, scenario: &str, root: &Path) -> Result<Child> {
    Command::new("taskset")
        .args(["--cpu-list", core, env!("CARGO_BIN_EXE_lab"), "run", "--cold"])
        .arg("--run-root")
        .arg(root)
        .arg(format!("tests/scenarios/start-order/{scenario}.yaml"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("taskset (util-linux) is missing")
}

/// What a run that came to what its scenario expects has said.
fn passed(run: Child) -> Result<String> {
    let output = run.wait_with_output()?;
    ensure!(output.status.success(), "{}:\n{}", output.status, said(&output));
    Ok(said(&output))
}

#[test]
#[ignore = "long: `make test-long` runs it"]
fn six_nodes_on_one_core_starve_their_control_plane_unless_they_wait_for_it() -> Result<()> {
    built("compute")?;
    let [first, last] = cores()?;
    let roots = [run_root("start-order-")?, run_root("start-order-")?];
    let together = run_on(&first, "together", roots[0].path())?;
    let ordered = run_on(&last, "ordered", roots[1].path())?;
    let (together, ordered) = (passed(together), passed(ordered));
    let (together, ordered) = (together?, ordered?);
    ensure!(together.contains("all nodes start together: as requested"), "{together}");
    ensure!(ordered.contains("workers boot first, and form once the control plane is Ready"), "{ordered}");
    for state in ["its CPUs are stopped until it may form", "CPUs running"] {
        ensure!(ordered.matches(state).count() == 5, "{state}: {ordered}");
    }
    Ok(())
}
