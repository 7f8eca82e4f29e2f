//! The output of a command, bounded in size.

use std::{collections::VecDeque, fmt};

/// The bytes that are kept of the beginning, and of the end.
const HEAD: usize = 16 << 10;
const TAIL: usize = 48 << 10;

/// The beginning and the end of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    head: String,
    tail: String,
    left_out: usize,
}

impl Output {
    /// The lines, with a note in place of what is left out.
    pub fn lines(&self) -> Vec<String> {
        self.to_string().lines().map(str::to_owned).collect()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        if self.left_out > 0 {
            write!(f, "\n[{} bytes of output are left out]\n", self.left_out)?;
        }
        f.write_str(&self.tail)
    }
}

/// Collects an output.
#[derive(Default)]
pub(super) struct Tail {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: usize,
}

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(HEAD - self.head.len()));
        self.head.extend(first);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..excess);
        self.left_out += excess;
    }

    pub(super) fn into_output(self) -> Output {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if self.left_out == 0 {
            // A character may lie across the boundary.
            return Output { head: text([self.head, self.tail.into()].concat()), ..Output::default() };
        }
        Output { head: text(self.head), tail: text(self.tail.into()), left_out: self.left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(pieces: &[&[u8]]) -> Output {
        let mut tail = Tail::default();
        pieces.iter().for_each(|piece| tail.push(piece));
        tail.into_output()
    }

    #[test]
    fn a_short_output_is_kept_as_it_is() {
        assert_eq!(output(&[b"a\n", b"", b"b"]).to_string(), "a\nb");
        let long = vec!["é".as_bytes(); 20 << 10].concat();
        assert_eq!(output(&[b"x", &long]).to_string(), format!("x{}", "é".repeat(20 << 10)));
    }

    #[test]
    fn the_middle_of_a_long_output_is_left_out_and_counted() {
        let line = vec![b'.'; 1 << 20];
        let text = output(&[b"first\n", &line, b"\nlast"]).to_string();
        assert!(text.starts_with("first\n.") && text.ends_with(".\nlast"), "{}", text.len());
        let left_out = (1 << 20) + 11 - HEAD - TAIL;
        assert!(text.contains(&format!("[{left_out} bytes of output are left out]")));
        assert!(text.len() < HEAD + TAIL + 100);
    }
}
