//! The command line as a user meets it: help, commands by their old names, built-in scenarios. Nothing boots.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Result, ensure};

fn lab(directory: &Path, arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(env!("CARGO_BIN_EXE_lab")).current_dir(directory).args(arguments).output()?)
}

/// Standard error of a command that must end with exit code 2 and print nothing else.
fn refused(directory: &Path, arguments: &[&str]) -> Result<String> {
    let output = lab(directory, arguments)?;
    ensure!(output.status.code() == Some(2) && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stderr)?)
}

/// Every command that had another name before commands were grouped.
const MOVED: [(&str, &str); 16] = [
    ("console cp-1", "node console cp-1"),
    ("pause cp-1", "node pause cp-1"),
    ("resume cp-1", "node resume cp-1"),
    ("kill cp-1", "node kill cp-1"),
    ("reboot cp-1", "node reboot cp-1"),
    ("link cut cp-1", "net cut cp-1"),
    ("kubectl get pods -A", "cluster kubectl get pods -A"),
    ("exec kube-system/dns -- ls -l", "cluster exec kube-system/dns -- ls -l"),
    ("inspect X", "image inspect X"),
    ("preflight compute=X", "image preflight compute=X"),
    ("pin ghcr.io/a/b:v1", "image pin ghcr.io/a/b:v1"),
    ("images build compute", "image build compute"),
    ("images programs", "image programs"),
    ("merge a b --out c", "report merge a b --out c"),
    ("history --json", "report history --json"),
    ("report --html -", "report show --html -"),
];

#[test]
fn a_command_by_its_old_name_answers_with_the_new_name_and_exit_code_2() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for (old, new) in MOVED {
        let told = refused(directory.path(), &old.split(' ').collect::<Vec<_>>())?;
        ensure!(
            told.ends_with(&format!(": run `lab {new}`\n")) && told.lines().count() == 1,
            "{old}: {told}"
        );
        // The new name is a command: its arguments are understood, or its help is printed.
        let mut words: Vec<_> =
            new.split(' ').take_while(|word| !word.starts_with('-') && *word != "cp-1").collect();
        words.truncate(2);
        words.push("--help");
        let help = lab(directory.path(), &words)?;
        ensure!(help.status.success(), "{words:?}: {help:?}");
    }
    Ok(())
}

#[test]
fn the_built_in_scenarios_are_listed_in_every_directory() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let listed = lab(directory.path(), &["run", "--list"])?;
    ensure!(listed.status.success(), "{listed:?}");
    insta::assert_snapshot!(String::from_utf8(listed.stdout)?, @r"
    01-compute-only-cluster    Do several compute nodes form a working cluster, without Tailscale anywhere?
    02-mixed-role-cluster      Do compute and gateway nodes form one cluster, with WebAssembly on both roles?
    03-tailscale-routing-test  Does the gateway route pod and service networks to a tailnet client, and only the gateway?
    04-extension-isolation     Does the image of each role contain exactly its own extensions?
    05-network-partition       Does the cluster recover after a worker, and after the control plane, was cut off from the network?
    ");
    Ok(())
}

#[test]
fn a_wrong_scenario_name_is_answered_with_the_nearest_one_and_the_list() -> Result<()> {
    let directory = tempfile::tempdir()?;
    insta::assert_snapshot!(refused(directory.path(), &["run", "mixd-role"])?, @r#"error: there is no scenario file "mixd-role" and no built-in scenario of that name; did you mean "mixed-role"? (built-in scenarios: 01-compute-only-cluster, 02-mixed-role-cluster, 03-tailscale-routing-test, 04-extension-isolation, 05-network-partition)"#);
    insta::assert_snapshot!(refused(directory.path(), &["run", "0"])?, @r#"error: scenario "0" is ambiguous; write more of one of these names: 01-compute-only-cluster, 02-mixed-role-cluster, 03-tailscale-routing-test, 04-extension-isolation, 05-network-partition"#);
    ensure!(refused(directory.path(), &["up", "--scenario", "zebra"])?.contains("05-network-partition"));
    Ok(())
}

#[test]
fn a_file_takes_precedence_over_a_built_in_scenario_of_its_name() -> Result<()> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("mixed-role"), "nmae: mine\n")?;
    ensure!(refused(directory.path(), &["run", "mixed-role"])?.contains("nmae"));
    ensure!(refused(directory.path(), &["run", "mixed-role.yaml"])?.contains("cannot be read"));
    // A directory is no scenario file.
    fs::create_dir(directory.path().join("zebra"))?;
    ensure!(refused(directory.path(), &["run", "zebra"])?.contains("no built-in scenario"));
    Ok(())
}

#[test]
fn a_restore_takes_the_cluster_as_it_was_saved_and_refuses_options_of_a_new_cluster() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for option in ["--nodes=2", "--name=other", "--warm"] {
        let told = refused(directory.path(), &["snapshot", "restore", "demo", option])?;
        ensure!(told.contains("unexpected argument"), "{option}: {told}");
    }
    let told = refused(directory.path(), &["snapshot", "restore", "demo"])?;
    ensure!(told == "error: no saved cluster is called demo; lab snapshot ls lists them\n", "{told}");
    Ok(())
}
