//! What a user's own checks expect: expressions, conditions of objects, and partial objects.
//!
//! Expressions come from scenario files, which may be a stranger's, and the values from a guest. Text and nesting are
//! bounded when an expression is read, and time when it is evaluated ([`limits`]).

mod cel;
pub mod chainsaw;
mod condition;
mod json_path;
mod limits;
mod object_key;
mod subset;

pub use cel::Cel;
pub use condition::{Condition, Unmet};
pub use json_path::JsonPath;
pub use object_key::ObjectKey;
pub use subset::mismatch;
