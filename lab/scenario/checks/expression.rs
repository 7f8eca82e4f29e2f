//! The expressions of checks as scenario files have them: `cel`, or `jsonPath` with or without `value`.

use lab_model::Diagnostic;
use lab_plan::{
    own_checks::{Cel, Condition, JsonPath},
    scenario::{CheckContext, Text},
};

/// The keys of an expression.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) cel: Option<&'a Text>,
    pub(super) json_path: Option<&'a Text>,
    pub(super) value: Option<&'a Text>,
}

impl Written<'_> {
    /// Reads the expression over `variable`, if the file has one. Returns `None` after it has reported a problem.
    pub(super) fn read(
        self,
        variable: &'static str,
        context: &mut CheckContext<'_, '_>,
    ) -> Option<Option<Condition>> {
        let mut refuse = |place: &Text, message: String, help: &str| {
            context.report(Diagnostic::at(place, message).help(help));
            None
        };
        match (self.cel, self.json_path, self.value) {
            (Some(_), Some(path), _) => {
                refuse(path, "`cel` and `jsonPath` exclude each other".to_owned(), "keep one of them")
            }
            (_, None, Some(value)) => {
                refuse(value, "`value` needs `jsonPath`".to_owned(), "with `cel`, compare in the expression")
            }
            (Some(text), None, None) => match Cel::parse(&text.value, variable) {
                Ok(cel) => Some(Some(Condition::Cel(cel))),
                Err(problem) => refuse(
                    text,
                    format!("the CEL expression is wrong: {problem}"),
                    &format!("write an expression over `{variable}` that is true or false, see cel.dev"),
                ),
            },
            (None, Some(text), value) => match JsonPath::parse(&text.value) {
                Ok(path) => {
                    Some(Some(Condition::JsonPath { path, value: value.map(|value| value.value.clone()) }))
                }
                Err(problem) => refuse(
                    text,
                    format!("the JSONPath expression is wrong: {problem}"),
                    "write a path as in RFC 9535, for example $.status.phase",
                ),
            },
            (None, None, None) => Some(None),
        }
    }
}
