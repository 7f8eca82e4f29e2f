//! Expressions in the Common Expression Language (cel.dev), which Kubernetes uses in its admission policies.

use std::{collections::HashMap, fmt, sync::Arc};

use cel::{Context, Program, Value as CelValue};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::limits::{bounded, within_limits};

/// The macros that repeat a part of an expression for each element of a list (CEL specification, "Macros").
const LOOPS: [&str; 5] = ["all", "exists", "exists_one", "map", "filter"];
/// The largest number of such macros in an expression: each can multiply the size of a value.
const MOST_LOOPS: usize = 6;

/// A compiled expression over one variable.
#[derive(Clone)]
pub struct Cel {
    text: String,
    variable: &'static str,
    program: Arc<Program>,
}

/// Why an expression is not true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CelError {
    /// It is false, or a field that it names is missing: another value may make it true.
    #[error("{0}")]
    NotTrue(String),
    /// No value makes it true.
    #[error("{0}")]
    Never(String),
}

impl Cel {
    /// Compiles an expression over `variable`.
    ///
    /// # Errors
    /// The syntax error, or the name of an unknown variable.
    pub fn parse(text: &str, variable: &'static str) -> Result<Self, String> {
        within_limits(text)?;
        let loops: usize = LOOPS.iter().map(|name| calls(text, name)).sum();
        if loops > MOST_LOOPS {
            return Err(format!("it has {loops} of all, exists, map and filter, and may have {MOST_LOOPS}"));
        }
        let source = text.to_owned();
        let compiled = bounded(move || match Program::compile(&source) {
            Ok(program) => {
                let refers = program.references().has_variable(variable);
                Ok((program, refers))
            }
            Err(errors) => {
                let first = errors.errors.first().map(|error| error.msg.replace('\n', " "));
                Err(first.unwrap_or_else(|| "it is not an expression".to_owned()))
            }
        });
        let (program, refers) = compiled.map_err(|exceeded| exceeded.to_string())??;
        if !refers {
            return Err(format!("it does not refer to `{variable}`, so it proves nothing"));
        }
        Ok(Self { text: text.to_owned(), variable, program: Arc::new(program) })
    }

    /// Evaluates the expression for a value of its variable.
    ///
    /// # Errors
    /// If the result is not `true`.
    pub fn holds(&self, value: &Value) -> Result<(), CelError> {
        let (program, variable, value) = (Arc::clone(&self.program), self.variable, converted(value));
        let result = bounded(move || {
            let mut context = Context::default();
            context.add_variable_from_value(variable, value);
            program.execute(&context).map_err(|error| error.to_string())
        });
        match result {
            Ok(Ok(CelValue::Bool(true))) => Ok(()),
            Ok(Ok(CelValue::Bool(false))) => Err(CelError::NotTrue(format!("{self} is false"))),
            Ok(Ok(other)) => {
                Err(CelError::Never(format!("{self} is a {} and not a boolean", other.type_of())))
            }
            Ok(Err(error)) => Err(CelError::NotTrue(format!("{self}: {}", lab_model::visible(&error, 200)))),
            Err(exceeded) => Err(CelError::Never(format!("{self}: {exceeded}"))),
        }
    }
}

/// How often a text calls a function of this name.
fn calls(text: &str, name: &str) -> usize {
    text.matches(&format!(".{name}(")).count()
}

/// The same value for CEL: as in Kubernetes, whole numbers are `int`.
fn converted(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(value) => CelValue::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => CelValue::Int(number),
            (None, Some(number)) => CelValue::UInt(number),
            (None, None) => CelValue::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => CelValue::from(text.as_str()),
        Value::Array(list) => CelValue::from(list.iter().map(converted).collect::<Vec<_>>()),
        Value::Object(keys) => {
            let keys = keys.iter().map(|(key, value)| (key.clone(), converted(value)));
            CelValue::from(keys.collect::<HashMap<String, CelValue>>())
        }
    }
}

impl fmt::Display for Cel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Cel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cel({})", self.text)
    }
}

impl Serialize for Cel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn holds(text: &str, value: &Value) -> Result<(), CelError> {
        Cel::parse(text, "object").expect(text).holds(value)
    }

    #[test]
    fn an_expression_is_true_of_one_object_and_not_of_another() {
        let two = json!({ "spec": { "replicas": 2 }, "status": { "readyReplicas": 2 } });
        let one = json!({ "spec": { "replicas": 2 }, "status": { "readyReplicas": 1 } });
        let text = "object.status.readyReplicas == object.spec.replicas && object.spec.replicas + 1 > 2";
        assert_eq!(holds(text, &two), Ok(()));
        assert_eq!(holds(text, &one), Err(CelError::NotTrue(format!("{text} is false"))));
        let missing = holds(text, &json!({ "spec": { "replicas": 2 } })).expect_err("no status");
        assert!(matches!(missing, CelError::NotTrue(_)), "{missing:?}");
        let list = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        let text = "object.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')";
        assert_eq!(holds(text, &list), Ok(()));
        assert!(holds(text, &json!({ "status": { "conditions": [] } })).is_err());
        assert_eq!(holds("!has(object.status)", &json!({ "spec": 1 })), Ok(()));
        assert_eq!(holds("object.name.matches('^a+$')", &json!({ "name": "aaa" })), Ok(()));
    }

    #[test]
    fn a_result_that_is_no_boolean_never_becomes_true() {
        let result = holds("object.a", &json!({ "a": 1 })).expect_err("a number");
        assert_eq!(result, CelError::Never("object.a is a int and not a boolean".into()));
    }

    #[test]
    fn mistakes_are_found_when_the_expression_is_read() {
        let refused = |text: &str| Cel::parse(text, "object").expect_err(text);
        assert!(refused("object.").contains("Syntax error"), "{}", refused("object."));
        assert!(refused("true").contains("does not refer to `object`"));
        assert!(refused("self.spec == 1").contains("does not refer to `object`"));
        assert!(refused("").contains("empty"));
        let doubling =
            format!("object.all(x, {}true)", "[x].map(a, a + a).size() > 0 && ".repeat(MOST_LOOPS));
        assert!(refused(&doubling).contains("and may have 6"));
    }

    #[test]
    fn deep_expressions_end_without_a_panic() {
        for text in [
            format!("object{}", ".a".repeat(450)),
            format!("{}object", "!".repeat(900)),
            format!("{}object", "-".repeat(900)),
            format!("object{}", "+1".repeat(450)),
            format!("object{}", " ? object : object".repeat(50)),
            format!("object{}", "||object".repeat(100)),
            format!("{}object", "(".repeat(900)),
        ] {
            if let Ok(expression) = Cel::parse(&text, "object") {
                let _ = expression.holds(&json!({ "a": 1 }));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_ends_without_a_panic(text in "(object|[a-z.()\\[\\]{}?:!+\\-*/%<>=&|,'\"0-9 ]|é){0,40}") {
            if let Ok(expression) = Cel::parse(&text, "object") {
                let _ = expression.holds(&json!({ "a": [1, "x", null, { "b": 2.5 }] }));
            }
        }
    }
}
