//! Tests of Chainsaw (github.com/kyverno/chainsaw, `pkg/apis/v1alpha1`), as far as the lab runs them: `docs/own-checks.md`
//! lists what it runs. Everything else is refused by name when the file is read, because a part that is left out would
//! be a check that passes without a look.

mod fields;
mod read;
mod test;
mod tree;

pub use read::{Files, Problem, read};
pub use test::{Action, ChainsawTest, Operation, Partial, Script, Step, Target, Until};
