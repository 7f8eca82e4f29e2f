//! Text from guests, registries, images and files, made safe to show.
//!
//! Such text may contain terminal escapes, line breaks that forge a line of a log, and marks that reverse the direction
//! of text. [`visible`] is the only way in which the lab shows it: what cannot be seen becomes visible, a line stays one
//! line, and the length is bounded. [`visible_lines`] is the same for text that has lines of its own.

/// The longest text of an event, in characters.
pub const LONGEST_TEXT: usize = 8 * 1024;

/// The mark at the end of text that was cut.
const CUT: char = '…';

/// Formats foreign text as one line of at most `most` characters. Line breaks become ` / `, tabs become spaces, and other
/// characters without a visible form become escapes such as `\u{1b}`.
pub fn visible(text: &str, most: usize) -> String {
    if text.len() <= most && !text.contains(is_hidden) {
        return text.to_owned();
    }
    let text = text.trim_end_matches(['\r', '\n']);
    let mut out = Bounded { text: String::new(), left: most };
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let goes_on = match character {
            '\r' if characters.peek() == Some(&'\n') => true,
            '\n' => out.push(" / "),
            '\t' => out.push(" "),
            character if is_hidden(character) => out.push(&format!("\\u{{{:x}}}", u32::from(character))),
            character => out.push(character.encode_utf8(&mut [0; 4])),
        };
        if !goes_on {
            break;
        }
    }
    out.text
}

/// Formats foreign text of at most `lines` lines, each as [`visible`] does with at most `most` characters.
pub fn visible_lines(text: &str, lines: usize, most: usize) -> String {
    let mut all = text.lines();
    let mut shown: Vec<_> = all.by_ref().take(lines).map(|line| visible(line, most)).collect();
    let more = all.count();
    if more > 0 {
        shown.push(format!("{CUT} {more} more lines"));
    }
    shown.join("\n")
}

/// Formats text of several lines for a terminal: everything but line breaks and tabs becomes visible.
pub fn shown(text: &str) -> String {
    if !text.contains(|character| is_hidden(character) && !matches!(character, '\n' | '\t')) {
        return text.to_owned();
    }
    let text = text.replace("\r\n", "\n");
    text.chars()
        .map(|character| match character {
            '\n' | '\t' => character.to_string(),
            character if is_hidden(character) => format!("\\u{{{:x}}}", u32::from(character)),
            character => character.to_string(),
        })
        .collect()
}

/// Writes hidden characters of JSON text as escapes of JSON. Line breaks between values stay.
pub fn json_shown(json: &str) -> String {
    let hidden = |character: char| is_hidden(character) && character != '\n';
    if !json.contains(hidden) {
        return json.to_owned();
    }
    let mut out = String::new();
    for character in json.chars() {
        if hidden(character) {
            let units = &mut [0; 2];
            character.encode_utf16(units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(character);
        }
    }
    out
}

/// Replaces hidden characters of a file by question marks, so that every other byte keeps its place.
pub fn excerpt(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => out.push(character),
            '\r' => out.push(' '),
            character if is_hidden(character) => out.extend(std::iter::repeat_n('?', character.len_utf8())),
            character => out.push(character),
        }
    }
    out
}

/// Whether a character has no visible form of its own: controls, line separators, marks of direction (Unicode
/// Standard Annex 9), and characters of no width, with which two names look the same.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Text with a limit of characters.
struct Bounded {
    text: String,
    left: usize,
}

impl Bounded {
    /// Adds a piece and tells whether it fit. A piece that does not fit becomes the mark of a cut.
    fn push(&mut self, piece: &str) -> bool {
        let length = piece.chars().count();
        if length > self.left {
            if self.left == 0 {
                self.text.pop();
            }
            self.text.push(CUT);
            return false;
        }
        self.left -= length;
        self.text.push_str(piece);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_line_breaks_and_marks_of_direction_become_visible() {
        for (text, shown) in [
            ("plain text, naïve 日本", "plain text, naïve 日本"),
            ("a\x1b]0;title\x07b", "a\\u{1b}]0;title\\u{7}b"),
            ("one\r\n::error::two\n", "one / ::error::two"),
            ("a\tb\u{9b}31m", "a b\\u{9b}31m"),
            ("user\u{202e}gnp.exe", "user\\u{202e}gnp.exe"),
            ("line\u{2028}two\u{feff}", "line\\u{2028}two\\u{feff}"),
            ("overwritten\rthis", "overwritten\\u{d}this"),
        ] {
            assert_eq!(visible(text, 200), shown);
        }
    }

    #[test]
    fn long_text_is_cut_within_its_limit() {
        assert_eq!(visible("abcdef", 4), "abc…");
        assert_eq!(visible("abcd", 4), "abcd");
        assert_eq!(visible("ab\x1bcd", 5), "ab…");
        assert_eq!(visible_lines("a\nb\x07\nc\nd", 2, 10), "a\nb\\u{7}\n… 2 more lines");
    }

    proptest! {
        #[test]
        fn text_for_terminals_and_excerpts_hide_nothing(text in any::<String>()) {
            let hidden = |c: char| is_hidden(c) && c != '\n' && c != '\t';
            prop_assert!(!shown(&text).contains(hidden));
            let excerpt = excerpt(&text);
            prop_assert!(!excerpt.contains(hidden));
            prop_assert_eq!(excerpt.len(), text.len());
        }

        #[test]
        fn json_stays_the_same_value(text in any::<String>()) {
            let json = serde_json::to_string_pretty(&[&text]).expect("json");
            let shown = json_shown(&json);
            prop_assert!(!shown.contains(|c: char| is_hidden(c) && c != '\n'), "{shown:?}");
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&shown).expect("json"), vec![text]);
        }

        #[test]
        fn any_text_becomes_one_bounded_line_and_stays_as_it_is(text in any::<String>(), most in 1usize..60) {
            let once = visible(&text, most);
            prop_assert!(!once.contains(is_hidden), "{once:?}");
            prop_assert!(once.chars().count() <= most, "{once:?}");
            prop_assert_eq!(visible(&once, most), once);
        }

        #[test]
        fn lines_stay_lines(text in "[a-z\\n\\x1b\u{202e}\r]{0,80}", lines in 1usize..5) {
            let shown = visible_lines(&text, lines, 20);
            prop_assert!(shown.lines().count() <= lines + 1);
            prop_assert!(!shown.contains(|c: char| is_hidden(c) && c != '\n'), "{shown:?}");
        }
    }
}
