//! What the project's sources must not say.

use anyhow::Result;

use super::{files, root};

#[test]
fn no_program_looks_for_the_tree_that_it_was_compiled_from() -> Result<()> {
    for name in files()?.iter().filter(|name| name.starts_with("lab/") && name.ends_with(".rs")) {
        let text = std::fs::read_to_string(root().join(name))?;
        let program = text.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(
            !program.contains("env!(\"CARGO_MANIFEST_DIR\")"),
            "{name} needs its source tree at run time"
        );
    }
    Ok(())
}

#[test]
fn what_indicatif_draws_is_not_drawn_by_ratatui() -> Result<()> {
    let mut drawn_by = [("indicatif::", Vec::new()), ("ratatui::", Vec::new())];
    for name in files()?.iter().filter(|name| name.starts_with("lab/") && name.ends_with(".rs")) {
        let text = std::fs::read_to_string(root().join(name))?;
        for (library, files) in &mut drawn_by {
            files.extend(text.contains(*library).then(|| name.clone()));
        }
    }
    let [(_, progress), (_, screen)] = drawn_by;
    assert!(!progress.is_empty() && !screen.is_empty(), "nothing is drawn: {progress:?} {screen:?}");
    assert!(progress.iter().all(|name| !name.contains("/screen/")), "{progress:?}");
    assert!(screen.iter().all(|name| name.contains("/screen/")), "{screen:?}");
    Ok(())
}

/// The number of `unsafe` blocks, functions and implementations, and of exemptions from the lint, by file.
#[test]
fn code_that_the_compiler_does_not_check_is_in_one_place() -> Result<()> {
    let unchecked =
        regex::Regex::new(r"\bunsafe\s*(\{|fn\b|impl\b|extern\b)|\b(allow|expect)\(unsafe_code\b")?;
    let mut found = Vec::new();
    for name in files()?.iter().filter(|name| name.ends_with(".rs") && !name.ends_with("ci/sources.rs")) {
        let text = std::fs::read_to_string(root().join(name))?;
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let count: usize = code.map(|line| unchecked.find_iter(line).count()).sum();
        if count > 0 {
            found.push((name.clone(), count));
        }
    }
    // The exemption, and the block that it is for. docs/security.md names the file.
    assert_eq!(found, [("lab/vm/process/parent_death.rs".to_owned(), 2)]);
    let documented = std::fs::read_to_string(root().join("docs/security.md"))?;
    assert!(documented.contains("lab/vm/process/parent_death.rs"));
    Ok(())
}
