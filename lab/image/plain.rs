//! Sanitizes image text for terminal output.

use std::borrow::Cow;

/// Escapes control characters in untrusted image text, because they could move the cursor.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let escaped = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
        return Cow::Owned(text.chars().map(escaped).collect());
    }
    Cow::Borrowed(text)
}
