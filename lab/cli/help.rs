//! The page of `lab --help`: the common commands first, then the groups, on one screen.

use std::fmt::Write;

use clap::{Command, CommandFactory};
use lab_model::ExitCode;

use super::{
    Arguments,
    detach::{DETACH, OF_DETACHED},
};

/// How many commands at the beginning of the list are the common ones.
const COMMON: usize = 11;

/// The parser of the command line, with that page.
pub(super) fn command() -> Command {
    let command = Arguments::command();
    let page = page(&command);
    let command = command.help_template(page);
    // `lab start` detaches always, so its options of a cluster that stays need no --detach.
    let command =
        ["up", "snapshot restore"].iter().fold(command, |command, path| at(command, path, &needs_detach));
    at(command, "start", &|start| start.mut_arg(DETACH, |option| option.hide(true)))
}

/// Changes the subcommand at a path of names. The order of the commands stays.
fn at(command: Command, path: &str, change: &dyn Fn(Command) -> Command) -> Command {
    let (name, rest) = path.split_once(' ').map_or((path, None), |(name, rest)| (name, Some(rest)));
    command.mut_subcommands(|inner| match rest {
        _ if inner.get_name() != name => inner,
        Some(rest) => at(inner, rest, change),
        None => change(inner),
    })
}

fn needs_detach(command: Command) -> Command {
    OF_DETACHED
        .iter()
        .fold(command, |command, option| command.mut_arg(option, |option| option.requires(DETACH)))
}

fn page(command: &Command) -> String {
    let (common, groups): (Vec<_>, Vec<_>) = command
        .get_subcommands()
        .filter(|one| !one.is_hide_set())
        .enumerate()
        .partition(|(at, _)| *at < COMMON);
    let mut page =
        "{about}\nUsage: lab COMMAND …   (`lab COMMAND --help` describes it, `lab completions` is for shells):\n"
            .to_owned();
    for (_, command) in common {
        line(&mut page, command.get_name(), about(command));
    }
    page.push_str("Groups of commands:\n");
    for (_, group) in groups {
        let names: Vec<_> = group.get_subcommands().map(Command::get_name).collect();
        let about = about(group);
        let text = if names.is_empty() { about } else { format!("{about}: {}", names.join(", ")) };
        line(&mut page, group.get_name(), text);
    }
    let codes = ExitCode::ALL.map(|code| format!("{} {}", code.code(), outcome(code))).join(", ");
    let _ = writeln!(page, "Exit codes: {codes}");
    page
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn line(page: &mut String, name: &str, text: String) {
    let _ = writeln!(page, "  {name:<11}  {text}");
}

/// The meaning of an exit code in a word or two; `lab run --help` has the sentences.
fn outcome(code: ExitCode) -> &'static str {
    match code {
        ExitCode::Passed => "passed",
        ExitCode::VerdictFailed => "failed",
        ExitCode::BadInput => "bad input",
        ExitCode::HostUnable => "host unable",
        ExitCode::Internal => "internal error",
        ExitCode::Interrupted => "interrupted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_fits_on_one_screen_and_lists_the_common_commands_first() {
        let help = command().render_help().to_string();
        insta::assert_snapshot!(help, @r"
        Boots clusters of Talos-layout ARM64 images in QEMU and reports whether they form, and if not, why
        Usage: lab COMMAND …   (`lab COMMAND --help` describes it, `lab completions` is for shells):
          run          Run scenarios and report a verdict
          rehearse     Check a pair of images, run scenarios 01 to 04 with them, and time the run
          up           Form a cluster and keep it running until Ctrl-C
          down         End running labs
          stop         Keep the cluster of a running lab on disk, and end the lab
          start        Run a cluster that lab stop or lab snapshot save kept, detached
          wait         Wait until the cluster of a running lab is ready, or has ended
          status       List running labs and their nodes
          doctor       Check what this host supports, and print a fix for each problem
          vet          Find own checks that pass without a look at the cluster
          init         Write scenarios, a workflow and lab.yaml for a repository of images, or test scripts
        Groups of commands:
          node         Nodes of a running lab: console, pause, resume, kill, reboot
          net          Network links of a running lab: status, cut, restore, shape, partition, heal, capture
          cluster      Kubernetes cluster of a running lab: kubectl, exec
          gate         Check a release of images without a boot: init
          image        Node images: inspect, preflight, pin, build, programs
          mirror       Container images that nodes pull: pull, ls
          config       Machine configs: check, rules, lab
          report       Reports of recorded runs: show, open, history, badge, merge
          snapshot     Saved clusters: save, restore, ls, rm
          cache        Data kept between runs: ls, prune
          bench        Benchmarks: formation, growth, warm, images, gate
        Exit codes: 0 passed, 1 failed, 2 bad input, 3 host unable, 4 internal error, 130 interrupted
        ");
        assert!(help.lines().count() <= 26 && help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }

    #[test]
    fn every_group_of_commands_has_subcommands() {
        let command = command();
        let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
        let groups = shown.skip(COMMON);
        for group in groups {
            assert!(group.has_subcommands(), "{}", group.get_name());
        }
    }
}
