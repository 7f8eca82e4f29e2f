//! Converts the bytes of a serial console to lines that are safe to show.

/// The maximum length of a line. Without a limit, a guest that never ends its line would exhaust the
/// lab's memory.
const LONGEST: usize = 4096;

/// Splits a byte stream into lines and removes terminal escapes (ECMA-48) and control bytes.
#[derive(Default)]
pub struct LineSplitter {
    state: SplitterState,
    line: Vec<u8>,
}

#[derive(Default)]
enum SplitterState {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte, e.g. the `(` of a character set choice.
    Intermediate,
    /// In a control sequence, until its final byte.
    Sequence,
    /// In a string (title, clipboard), until BEL or ESC \.
    String,
}

impl LineSplitter {
    /// Adds bytes and calls `line` for every completed line.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        for &byte in bytes {
            if let Some(complete) = self.byte(byte) {
                line(complete);
            }
        }
    }

    /// The unfinished last line, if any.
    pub fn finish(&mut self) -> Option<String> {
        (!self.line.is_empty()).then(|| self.take())
    }

    fn byte(&mut self, byte: u8) -> Option<String> {
        match (&self.state, byte) {
            // A new line ends every state, including an escape that the guest never finished.
            (_, b'\n') => {
                self.state = SplitterState::Text;
                return Some(self.take());
            }
            (SplitterState::String, 0x07) => self.state = SplitterState::Text,
            (_, 0x1b) => self.state = SplitterState::Escape,
            (SplitterState::Text, b'\t') => self.line.push(b' '),
            (SplitterState::Text, 0x00..=0x1f | 0x7f) => {}
            (SplitterState::Text, _) => self.line.push(byte),
            (SplitterState::Escape, b'[') => self.state = SplitterState::Sequence,
            (SplitterState::Escape, b']' | b'P' | b'_' | b'^' | b'X') => self.state = SplitterState::String,
            (SplitterState::Escape | SplitterState::Intermediate, 0x20..=0x2f) => {
                self.state = SplitterState::Intermediate
            }
            (SplitterState::Sequence, 0x40..=0x7e)
            | (SplitterState::Escape | SplitterState::Intermediate, _) => {
                self.state = SplitterState::Text;
            }
            (SplitterState::Sequence | SplitterState::String, _) => {}
        }
        (self.line.len() >= LONGEST).then(|| self.take())
    }

    fn take(&mut self) -> String {
        // C1 control characters (above ASCII) take two bytes each, so they are only visible after
        // decoding.
        let text = String::from_utf8_lossy(&self.line);
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        self.line.clear();
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |line| lines.push(line));
        }
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn colours_titles_and_control_bytes_are_taken_out() {
        let bytes =
            b"\x1b[0;32m[ OK ]\x1b[0m up\x07\r\n\x1b]0;title\x07plain\x1b(B text\n\x1b]8;;x\x1b\\link\n";
        assert_eq!(lines(&[bytes]), ["[ OK ] up", "plain text", "link"]);
    }

    #[test]
    fn control_characters_above_ascii_do_not_reach_a_terminal() {
        assert_eq!(lines(&["a\u{9b}31mb\u{85}é\n".as_bytes()]), ["a31mbé"]);
    }

    #[test]
    fn an_escape_cut_in_two_is_still_an_escape() {
        assert_eq!(lines(&[b"a\x1b[3", b"1mb\n"]), ["ab"]);
    }

    #[test]
    fn an_unfinished_line_comes_at_the_end_and_a_new_line_ends_an_unfinished_escape() {
        assert_eq!(lines(&[b"a\x1b]never closed\nlogin: "]), ["a", "login:"]);
    }

    #[test]
    fn an_endless_line_is_cut() {
        assert_eq!(lines(&[&[b'x'; 10_000]]).iter().map(String::len).collect::<Vec<_>>(), [4096, 4096, 1808]);
    }

    proptest! {
        #[test]
        fn no_control_character_survives_and_cuts_between_reads_do_not_matter(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            cut in 0usize..300,
        ) {
            let whole = lines(&[&bytes]);
            prop_assert!(!whole.iter().any(|line| line.contains(char::is_control)));
            let (left, right) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(lines(&[left, right]), whole);
        }
    }
}
