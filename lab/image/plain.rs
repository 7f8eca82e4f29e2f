//! Texts of images, made fit for a terminal.

use std::borrow::Cow;

/// `text` of an image, which may hold anything, without what would move a terminal's cursor.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let escaped = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
        return Cow::Owned(text.chars().map(escaped).collect());
    }
    Cow::Borrowed(text)
}
