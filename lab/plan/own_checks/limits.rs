//! Limits for the evaluation of expressions.

use std::{sync::mpsc, thread, time::Duration};

/// The longest expression, in bytes.
pub(super) const LONGEST: usize = 1000;
/// The deepest nesting of brackets in an expression.
const DEEPEST: usize = 32;
/// The stack of the thread that reads or evaluates an expression, in bytes: both are recursive, and a frame of a program
/// that is not optimised is large. Only what is used takes memory.
const STACK: usize = 256 << 20;
/// The time limit of one evaluation. Ordinary expressions take less than a millisecond.
const TIME: Duration = Duration::from_secs(2);

/// Why work within the limits has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Exceeded {
    #[error("its evaluation takes longer than {} s", TIME.as_secs())]
    Time,
    #[error("it cannot be evaluated")]
    Failed,
}

/// Checks length and nesting before a parser reads the text.
pub(super) fn within_limits(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("the expression is empty".to_owned());
    }
    if text.len() > LONGEST {
        return Err(format!("the expression has more than {LONGEST} bytes"));
    }
    let mut depth = 0_usize;
    for character in text.chars() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(format!("the expression nests deeper than {DEEPEST} brackets"));
        }
    }
    Ok(())
}

/// Does work in a thread with a large stack and a time limit. Work that exceeds the limit is left to itself: nothing can
/// end a thread. It ends with the process, so callers do not repeat it.
pub(super) fn bounded<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Exceeded> {
    let (reply, answer) = mpsc::sync_channel(1);
    let work = move || {
        // The caller may have given up.
        let _ = reply.send(work());
    };
    thread::Builder::new()
        .name("expression".to_owned())
        .stack_size(STACK)
        .spawn(work)
        .map_err(|_| Exceeded::Failed)?;
    answer.recv_timeout(TIME).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => Exceeded::Time,
        mpsc::RecvTimeoutError::Disconnected => Exceeded::Failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_deep_expressions_are_not_read() {
        assert_eq!(within_limits("a.b(c[0])"), Ok(()));
        assert!(within_limits(" ").is_err());
        assert!(within_limits(&"a".repeat(LONGEST + 1)).is_err());
        assert!(within_limits(&"(".repeat(DEEPEST + 1)).is_err());
    }

    #[test]
    fn work_that_takes_too_long_is_given_up() {
        let done = bounded(|| thread::sleep(TIME * 4));
        assert_eq!(done, Err(Exceeded::Time));
        assert_eq!(bounded(|| 7), Ok(7));
    }
}
