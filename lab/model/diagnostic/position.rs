//! Positions in a file.

use serde::{Deserialize, Serialize};

/// A line and column, numbered as in editors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Line number, starting at 1.
    pub line: usize,
    /// Column number in characters, starting at 1.
    pub column: usize,
}

impl Position {
    /// The start of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// A byte range in the text of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Offset of the first byte.
    pub offset: usize,
    /// Length in bytes.
    pub length: usize,
}

/// A value with a position in a file.
pub trait Located {
    /// Returns the start position, if known.
    fn position(&self) -> Option<Position>;

    /// Returns the byte range, if known.
    fn span(&self) -> Option<Span> {
        None
    }
}

impl Located for Position {
    fn position(&self) -> Option<Position> {
        Some(*self)
    }
}

impl<T: Located + ?Sized> Located for &T {
    fn position(&self) -> Option<Position> {
        (**self).position()
    }

    fn span(&self) -> Option<Span> {
        (**self).span()
    }
}
