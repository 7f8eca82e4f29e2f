//! Where something stands in a file.

use serde::{Deserialize, Serialize};

/// A place in a file, as editors count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The beginning of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// A part of a file's text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Its first byte.
    pub offset: usize,
    /// How many bytes it has.
    pub length: usize,
}

/// What stands somewhere in a file.
pub trait Located {
    /// Where it begins, if that is known.
    fn position(&self) -> Option<Position>;

    /// Its bytes, if these are known.
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
