//! Waits for a condition with a deadline. The error contains the last observation.
//!
//! A [`Condition`] checks one observation: it holds, or returns the reason why not. Conditions combine with
//! [`Condition::and`], [`Condition::or`] and [`Condition::not`]. A [`Wait`] has a time limit and a polling
//! interval. It polls ([`Wait::retry`], [`Wait::poll`]) or reads a stream of events ([`Wait::on`]). Use events
//! where the other side sends them.
//!
//! ```ignore
//! let limit = budgets.limit(Step::Ready);
//! let node = Wait::up_to(limit).on(node_changes(&api), is_ready().and(has_boot_id(new))).await?;
//! ```
//!
//! This module depends on no other module of the lab.

mod condition;
mod deadline;

pub use condition::{And, Condition, Not, Or};
pub use deadline::{Expired, PollError, Wait, sample};
