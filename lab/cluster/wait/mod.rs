//! Waits: a thing is looked at until a condition holds of it, with a deadline, and the end says what was seen last.
//!
//! A [`Condition`] is a small statement about what was seen. It holds, or says why not; conditions combine with
//! [`Condition::and`], [`Condition::or`] and [`Condition::not`]. A [`Wait`] says how long to look and how often. It
//! looks by asking again ([`Wait::retry`], [`Wait::poll`]) or, where the other side speaks first, by taking events
//! ([`Wait::on`]); prefer events.
//!
//! ```ignore
//! let limit = budgets.limit(Step::Ready);
//! let node = Wait::up_to(limit).on(node_changes(&api), is_ready().and(has_boot_id(new))).await?;
//! ```
//!
//! Everything that waits may use this folder. It uses nothing of the lab.

mod condition;
mod deadline;

pub use condition::{And, Condition, Not, Or};
pub use deadline::{Expired, PollError, Wait, sample};
