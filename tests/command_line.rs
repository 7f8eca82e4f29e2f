//! The command line as a user meets it: help, commands by their old names, built-in scenarios. Nothing boots.

#[path = "support/oci_layout.rs"]
mod oci_layout;
#[path = "support/small_disk.rs"]
mod small_disk;

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
fn a_scenario_that_runs_a_program_is_refused_before_anything_starts() -> Result<()> {
    let directory = tempfile::tempdir()?;
    fs::write(
        directory.path().join("own.yaml"),
        "name: own\ncluster: { gateways: 0, nodes: [{ name: cp-1, kind: controlplane }] }\nchecks: [{ run: touch started }]\n",
    )?;
    insta::assert_snapshot!(refused(directory.path(), &["run", "own.yaml"])?, @"error: the check run of the scenario own runs a program on this host with your rights (WHEN touch started runs on the host); read the scenario and its files, and allow them with --allow-run");
    ensure!(!directory.path().join("started").exists() && !directory.path().join("target").exists());
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

#[test]
fn a_file_outside_of_the_scenarios_directory_is_not_read_and_no_file_is_printed() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (own, outside) = (work.path().join("scenario"), work.path().join("outside"));
    fs::create_dir_all(&own)?;
    fs::create_dir_all(&outside)?;
    fs::write(outside.join("shadow"), "root:$6$S3CRET:20000::::::\n")?;
    std::os::unix::fs::symlink(outside.join("shadow"), own.join("link.yaml"))?;
    let scenario = |file: &str| {
        let text = format!(
            "name: a\ncluster:\n  gateways: 0\n  nodes: [{{ name: cp-1, kind: controlplane, patches: [{file}] }}]\n"
        );
        fs::write(own.join("a.yaml"), text)
    };
    let absolute = outside.join("shadow").display().to_string();
    for file in [absolute.as_str(), "../outside/shadow", "link.yaml"] {
        scenario(file)?;
        let told = refused(&own, &["run", "--dry-run", "./a.yaml"])?;
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(told.contains("outside of the directory of the scenario"), "{file}: {told}");
        ensure!(!told.contains("S3CRET"), "{file}: {told}");
    }
    // Where it may be read, its text is still not shown.
    scenario("../outside/shadow")?;
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/target/images");
    let arguments = ["run", "--dry-run", "--images", images, "--allow-path", "../outside", "./a.yaml"];
    let told = refused(&own, &arguments)?;
    ensure!(told.contains("this is not a key") && !told.contains("S3CRET"), "{told}");
    Ok(())
}

#[test]
fn files_without_end_and_with_escapes_are_refused_in_plain_text() -> Result<()> {
    let work = tempfile::tempdir()?;
    let begun = std::time::Instant::now();
    fs::write(work.path().join("deep.yaml"), "[".repeat(3 << 20))?;
    fs::write(work.path().join("large.yaml"), "#".repeat(100 << 20))?;
    fs::write(work.path().join("escapes.yaml"), "\"\x1b]0;owned\x07\n::error::\u{202e}x\": 1\nname: a\n")?;
    fs::write(work.path().join("images.lock.yaml"), "[".repeat(1 << 20))?;
    for file in ["./deep.yaml", "./large.yaml", "./escapes.yaml"] {
        let told = refused(work.path(), &["run", "--dry-run", file])?;
        let hidden = |c: char| lab_model::is_hidden(c) && c != '\n';
        ensure!(!told.contains(hidden), "{file}: {told:?}");
        ensure!(told.len() < 20_000, "{file}: {} bytes", told.len());
    }
    refused(work.path(), &["image", "inspect", "ghcr.io/a/b:v1"])?;
    ensure!(begun.elapsed() < std::time::Duration::from_secs(60), "it took {:?}", begun.elapsed());
    Ok(())
}

#[test]
fn a_closed_pipe_is_no_panic_and_a_full_device_is_told() -> Result<()> {
    let lab = |stdout: std::process::Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(["run", "--list"]).stdout(stdout).stderr(std::process::Stdio::piped()).output()
    };
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let closed = lab(writer.into())?;
    ensure!(closed.status.success() && closed.stderr.is_empty(), "{closed:?}");
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let full = lab(full.into())?;
    let told = String::from_utf8_lossy(&full.stderr).into_owned();
    ensure!(full.status.code() == Some(3), "{full:?}");
    ensure!(told.starts_with("error: write to standard output: ") && told.lines().count() == 1, "{told}");
    Ok(())
}

#[test]
fn too_few_descriptors_are_told_as_such() -> Result<()> {
    let work = tempfile::tempdir()?;
    let line = format!("ulimit -n 12; exec {} doctor --run-root runs", env!("CARGO_BIN_EXE_lab"));
    let output = Command::new("bash").args(["-c", &line]).current_dir(work.path()).output()?;
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(3), "{output:?}");
    ensure!(told.contains("ulimit -n") && !told.contains("executable for this host"), "{told}");
    Ok(())
}

#[test]
fn a_disk_that_fills_up_while_an_image_is_unpacked_is_no_error_of_the_image() -> Result<()> {
    // An image layout of a kernel and an initramfs of 4 MiB each, and room for one of them.
    let work = tempfile::tempdir()?;
    let file = |name: &str| (format!("assets/talos/arm64/boot/{name}"), vec![1; 4 << 20]);
    oci_layout::add(&work.path().join("image"), "app:v1", &[file("vmlinuz"), file("initramfs.xz")])?;
    let inspect = "cd \"$WORK\"; exec \"$LAB\" image inspect image --cache \"$PLACE/cache\"";
    let variables = [("LAB", Path::new(env!("CARGO_BIN_EXE_lab"))), ("WORK", work.path())];
    let run = |mib| small_disk::on_small_disk(mib, inspect, &variables);
    let (Some(full), Some(enough)) = (run(6)?, run(40)?) else { return Ok(()) };
    let told = String::from_utf8_lossy(&full.stderr).into_owned();
    ensure!(full.status.code() == Some(3), "{full:?}");
    ensure!(told.contains("No space left on device") && told.lines().count() == 1, "{told}");
    // The same image where there is room: what is wrong is the image, whose files are no kernel.
    ensure!(enough.status.code() == Some(2), "{enough:?}");
    Ok(())
}

#[test]
fn every_output_survives_a_closed_pipe() -> Result<()> {
    for arguments in [&["completions", "bash"][..], &["report", "history"], &["--help"], &["run", "--help"]] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let closed = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(arguments)
            .stdout(writer)
            .stderr(std::process::Stdio::piped())
            .output()?;
        ensure!(closed.status.success() && closed.stderr.is_empty(), "{arguments:?}: {closed:?}");
    }
    Ok(())
}
