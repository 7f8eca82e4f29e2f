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
