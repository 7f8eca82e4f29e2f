//! The lists in `images/rootfs`: one entry per line, `#` starts a comment.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::step::{RecipeError, file};

/// A list file: the words of its lines, with line numbers.
pub(super) struct Listing {
    path: PathBuf,
    lines: Vec<(usize, Vec<String>)>,
}

impl Listing {
    pub(super) fn read(path: &Path) -> Result<Self, RecipeError> {
        let text = fs::read_to_string(path).map_err(file("read", path))?;
        Ok(Self { path: path.to_owned(), lines: words(&text) })
    }

    /// Returns the entries of a list with one word per line.
    pub(super) fn names(&self) -> Result<Vec<&str>, RecipeError> {
        self.lines
            .iter()
            .map(|(line, words)| match words.as_slice() {
                [word] => Ok(word.as_str()),
                _ => Err(self.problem(*line, "one word is expected")),
            })
            .collect()
    }

    /// Returns the entries of a list with two words per line.
    pub(super) fn pairs(&self) -> Result<Vec<(&str, &str)>, RecipeError> {
        self.lines
            .iter()
            .map(|(line, words)| match words.as_slice() {
                [first, second] => Ok((first.as_str(), second.as_str())),
                _ => Err(self.problem(*line, "two words are expected")),
            })
            .collect()
    }

    fn problem(&self, line: usize, problem: &str) -> RecipeError {
        RecipeError::List { path: self.path.clone(), line, problem: problem.into() }
    }
}

fn words(text: &str) -> Vec<(usize, Vec<String>)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            let line = line.split('#').next().unwrap_or_default();
            (index + 1, line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        })
        .filter(|(_, words)| !words.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_do_not_count() {
        let lines = words("# head\n\na b # tail\n  c\n");
        assert_eq!(lines, [(3, vec!["a".into(), "b".into()]), (4, vec!["c".into()])]);
    }
}
