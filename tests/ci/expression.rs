//! The expressions of GitHub Actions, as far as action.yml needs them: comparison, `&&`, `||`, `!`, brackets, texts,
//! `always()`, `endsWith()`, and contexts.
//!
//! Source: "Evaluate expressions in workflows and actions" of the GitHub documentation: `&&` and `||` give one of their
//! operands, an empty text is false, texts are compared without regard to case.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

/// What contexts hold, by whole path, e.g. `inputs.boot`. A path that is not there is a mistake, not an empty text.
#[derive(Clone, Debug, Default)]
pub struct Contexts {
    pub values: BTreeMap<String, String>,
    /// Paths below which all is empty unless it has a value: outputs of steps.
    pub open: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    Bool(bool),
}

impl Value {
    fn truth(&self) -> bool {
        match self {
            Value::Text(text) => !text.is_empty(),
            Value::Bool(truth) => *truth,
        }
    }

    fn text(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Bool(truth) => truth.to_string(),
        }
    }
}

/// A text with each `${{ … }}` in it replaced.
pub fn interpolated(text: &str, contexts: &Contexts) -> Result<String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, from)) = rest.split_once("${{") {
        let (inner, after) = from.split_once("}}").with_context(|| format!("no end of ${{{{ in {text}"))?;
        out += before;
        out += &value(inner, contexts)?.text();
        rest = after;
    }
    Ok(out + rest)
}

/// Whether a step runs: the condition, and unless that asks for it itself no step failed before.
pub fn holds(condition: &str, contexts: &Contexts, failed: bool) -> Result<bool> {
    let condition = condition.trim().trim_start_matches("${{").trim_end_matches("}}");
    let whatever = condition.contains("always()");
    Ok(value(condition, contexts)?.truth() && (whatever || !failed))
}

/// Every context path that an expression names.
pub fn paths(expression: &str) -> Vec<String> {
    let words = tokens(expression).unwrap_or_default();
    words.into_iter().filter(|word| word.contains('.') && !word.starts_with('\'')).collect()
}

/// The insides of each `${{ … }}` of a text.
pub fn expressions(text: &str) -> Vec<&str> {
    text.split("${{").skip(1).filter_map(|from| from.split_once("}}")).map(|(inner, _)| inner).collect()
}

fn value(expression: &str, contexts: &Contexts) -> Result<Value> {
    let tokens = tokens(expression)?;
    let mut parser = Parser { tokens: &tokens, at: 0, contexts };
    let value = parser.any().with_context(|| format!("in the expression {expression}"))?;
    ensure!(parser.at == tokens.len(), "\"{}\" is left of the expression {expression}", tokens[parser.at]);
    Ok(value)
}

fn tokens(expression: &str) -> Result<Vec<String>> {
    let (mut tokens, mut rest) = (Vec::new(), expression.trim());
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' => rest[1..].find('\'').context("a text without an end")? + 2,
            '=' | '&' | '|' => 2,
            '!' if rest.starts_with("!=") => 2,
            '!' | '(' | ')' | ',' => 1,
            _ => rest.find(|c: char| !c.is_alphanumeric() && !"._-".contains(c)).unwrap_or(rest.len()),
        };
        ensure!(length > 0 && length <= rest.len(), "\"{rest}\" is not understood");
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [String],
    at: usize,
    contexts: &'a Contexts,
}

impl Parser<'_> {
    fn take(&mut self, wanted: &str) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|token| token == wanted);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<Value> {
        let mut left = self.all()?;
        while self.take("||") {
            let right = self.all()?;
            left = if left.truth() { left } else { right };
        }
        Ok(left)
    }

    fn all(&mut self) -> Result<Value> {
        let mut left = self.comparison()?;
        while self.take("&&") {
            let right = self.comparison()?;
            left = if left.truth() { right } else { left };
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Value> {
        let left = self.operand()?;
        for (sign, equal) in [("==", true), ("!=", false)] {
            if self.take(sign) {
                let right = self.operand()?;
                return Ok(Value::Bool(left.text().eq_ignore_ascii_case(&right.text()) == equal));
            }
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Value> {
        if self.take("!") {
            return Ok(Value::Bool(!self.operand()?.truth()));
        }
        if self.take("(") {
            let inner = self.any()?;
            ensure!(self.take(")"), "a bracket is not closed");
            return Ok(inner);
        }
        let token = self.tokens.get(self.at).context("something is missing at the end")?.clone();
        self.at += 1;
        if let Some(text) = token.strip_prefix('\'') {
            return Ok(Value::Text(text.trim_end_matches('\'').to_owned()));
        }
        if self.take("(") {
            let mut arguments = Vec::new();
            while !self.take(")") {
                arguments.push(self.any()?.text());
                self.take(",");
            }
            return match (token.as_str(), arguments.as_slice()) {
                ("always", []) => Ok(Value::Bool(true)),
                ("endsWith", [text, end]) => Ok(Value::Bool(text.ends_with(end.as_str()))),
                _ => bail!("{token}() with {} arguments is not known", arguments.len()),
            };
        }
        let known = self.contexts.values.get(&token).cloned();
        let open = self.contexts.open.iter().any(|path| token.starts_with(path.as_str()));
        match known.or_else(|| open.then(String::new)) {
            Some(text) => Ok(Value::Text(text)),
            None => bail!("{token} is nothing that is there"),
        }
    }
}

#[test]
fn expressions_have_the_values_that_the_documentation_gives_them() -> Result<()> {
    let contexts = Contexts {
        values: [("inputs.boot", "true"), ("inputs.none", ""), ("steps.a.outputs.x", "lab-1")]
            .map(|(path, value)| (path.to_owned(), value.to_owned()))
            .into(),
        open: ["steps.a.outputs.".to_owned()].into(),
    };
    for (expression, expected) in [
        ("inputs.boot", "true"),
        ("inputs.none || steps.a.outputs.x || 'broken'", "lab-1"),
        ("inputs.none || steps.a.outputs.y || 'broken'", "broken"),
        ("inputs.boot == 'TRUE' && inputs.none != ''", "false"),
        ("(inputs.none || inputs.boot) && 'b'", "b"),
        ("!endsWith(steps.a.outputs.x, '-1')", "false"),
    ] {
        assert_eq!(value(expression, &contexts)?.text(), expected, "{expression}");
    }
    assert_eq!(interpolated("a ${{ inputs.boot }}${{inputs.none}} b", &contexts)?, "a true b");
    for wrong in
        ["inputs.other", "steps.b.outputs.x", "inputs.boot ==", "(inputs.boot", "hashFiles('x')", "'a"]
    {
        assert!(value(wrong, &contexts).is_err(), "{wrong}");
    }
    assert!(holds("inputs.boot == 'true'", &contexts, false)? && !holds("inputs.boot", &contexts, true)?);
    assert!(
        holds("always() && inputs.boot", &contexts, true)?
            && !holds("always() && inputs.none", &contexts, true)?
    );
    assert_eq!(paths("!a.b && c.d-e('x.y')"), ["a.b", "c.d-e"]);
    Ok(())
}
