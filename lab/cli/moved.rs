//! Commands that moved into a group: the old name answers with the new one.

use clap::CommandFactory;
use lab_model::words::shell_quoted;

use super::Arguments;

/// Old and new names. `report` is missing: it is a group now, whose own name was a command (see [`answer`]).
const MOVED: [(&str, &str); 14] = [
    ("console", "node console"),
    ("pause", "node pause"),
    ("resume", "node resume"),
    ("kill", "node kill"),
    ("reboot", "node reboot"),
    ("link", "net"),
    ("kubectl", "cluster kubectl"),
    ("exec", "cluster exec"),
    ("inspect", "image inspect"),
    ("preflight", "image preflight"),
    ("pin", "image pin"),
    ("images", "image"),
    ("merge", "report merge"),
    ("history", "report history"),
];

/// The answer to a command line that uses a command by its old name; `words` begins after the program.
pub(super) fn answer(words: &[String]) -> Option<String> {
    let (old, rest) = words.split_first()?;
    let new = match MOVED.iter().find(|(moved, _)| moved == old) {
        Some((_, new)) => new,
        None if old == "report" && !is_of_group(old, rest.first()?) => "report show",
        None => return None,
    };
    let rest: String = rest.iter().map(|word| format!(" {}", shell_quoted(word))).collect();
    Some(format!("`lab {old}` is now `lab {new}`: run `lab {new}{rest}`"))
}

/// Whether a word after the name of a group is meant for the group: a subcommand, an option of its own, or a request for
/// help.
fn is_of_group(group: &str, word: &str) -> bool {
    let command = Arguments::command();
    let Some(group) = command.find_subcommand(group) else { return false };
    let is_option = |option: &str| group.get_arguments().any(|argument| argument.get_long() == Some(option));
    ["help", "--help", "-h"].contains(&word)
        || word.strip_prefix("--").is_some_and(is_option)
        || group.find_subcommand(word).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(line: &str) -> Option<String> {
        answer(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_old_name_answers_with_a_command_that_exists() {
        for (old, new) in MOVED {
            let command = Arguments::command();
            assert!(command.find_subcommand(old).is_none(), "{old} is still a command");
            let found = new
                .split(' ')
                .try_fold(&command, |command, name| command.find_subcommand(name))
                .map(clap::Command::get_name);
            assert_eq!(found, new.split(' ').next_back(), "lab {new} is no command");
            let told = format!("`lab {old}` is now `lab {new}`: run `lab {new} X --json`");
            assert_eq!(answered(&format!("{old} X --json")), Some(told));
        }
    }

    #[test]
    fn a_report_by_its_old_name_is_shown_by_the_new_one() {
        for rest in ["green", "--html -", "target/lab/run --junit out.xml"] {
            let told = format!("`lab report` is now `lab report show`: run `lab report show {rest}`");
            assert_eq!(answered(&format!("report {rest}")), Some(told));
        }
    }

    #[test]
    fn commands_by_their_present_names_and_unknown_words_are_left_to_the_parser() {
        for line in [
            "report show X",
            "report --help",
            "report --open",
            "report",
            "node pause X",
            "run 01",
            "--help",
            "fly",
            "",
        ] {
            assert_eq!(answered(line), None, "{line}");
        }
        assert_eq!(answer(&[]), None);
    }

    #[test]
    fn the_answer_can_be_pasted_into_a_shell() {
        let words = ["exec", "a/b", "--", "sh", "-c", "echo 'x' $y"].map(str::to_owned);
        let told = answer(&words).expect("an old name");
        assert!(told.ends_with(r"run `lab cluster exec a/b -- sh -c 'echo '\''x'\'' $y'`"), "{told}");
    }
}
