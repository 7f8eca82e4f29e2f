//! Wrapper scripts: their interpreter, and the programs that they evidently start.

use serde::{Deserialize, Serialize};

/// The largest part of a script that is read, in bytes.
pub(super) const SCRIPT_LIMIT: u64 = 64 << 10;
/// The longest path of a program in a script, in bytes.
const PATH_LIMIT: usize = 4096;
/// The maximum number of programs that one script names.
const STARTS_LIMIT: usize = 64;

/// A script with a line `#!`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// The interpreter.
    pub interpreter: String,
    /// The program that `env` looks for in the interpreter line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The programs that the script starts: what follows `exec`, and absolute paths at the start of a command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<String>,
}

impl Script {
    /// Reads the beginning of a file. Returns `None` if the file is not a script (execve(2), "Interpreter scripts").
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text.strip_prefix(b"#!")?);
        let (first, body) = text.split_once('\n').unwrap_or((&text, ""));
        let mut words = first.split_whitespace();
        let interpreter = words.next().filter(|path| path.len() <= PATH_LIMIT)?.to_owned();
        let is_env = interpreter.rsplit('/').next() == Some("env");
        // `env -S python3 -u` splits its argument.
        let env = words.find(|word| !word.starts_with('-') && !word.contains('='));
        let mut script =
            Self { interpreter, env: env.filter(|_| is_env).map(str::to_owned), starts: Vec::new() };
        let shell = script.env.as_deref().unwrap_or(&script.interpreter);
        if ["sh", "bash", "dash", "ash"].iter().any(|name| shell.rsplit('/').next() == Some(name)) {
            for line in body.lines() {
                script.take(line);
            }
        }
        Some(script)
    }

    fn take(&mut self, line: &str) {
        for command in line.split([';', '&', '|']) {
            let mut words = command.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
            let mut words = words.by_ref().skip_while(|word| {
                ["then", "else", "do", "if", "!", "sudo", "gosu", "su-exec"].contains(word)
                    || word.contains('=')
            });
            let word = match words.next() {
                Some("exec") => executed(&mut words),
                Some(word) => Some(word).filter(|word| word.starts_with('/')),
                None => None,
            };
            let named = word.filter(|word| {
                !word.is_empty() && word.len() <= PATH_LIMIT && !word.contains(['$', '`', '*', '(', '<', '>'])
            });
            let new = named.filter(|word| !self.starts.iter().any(|known| known == word));
            if self.starts.len() < STARTS_LIMIT {
                self.starts.extend(new.map(str::to_owned));
            }
        }
    }
}

/// The program behind `exec`, after its options and after `env NAME=VALUE …`.
fn executed<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<&'a str> {
    loop {
        match words.next()? {
            // The name that the program gets.
            "-a" => drop(words.next()),
            word if word.starts_with('-') || word == "env" || word.contains('=') => {}
            word => return Some(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_and_the_evident_programs_are_found() {
        let text = "#!/bin/sh -e\n# exec /comment is in a comment\nset -e\nif [ -f /x ]; then exec /app/first; fi\nA=1 /opt/tool --x\nexec -a name \"second\" \"$@\"\n";
        let script = Script::parse(text.as_bytes()).expect("script");
        assert_eq!(script.interpreter, "/bin/sh");
        assert_eq!(script.starts, ["/app/first", "/opt/tool", "second"]);
        let python = Script::parse(b"#!/usr/bin/env -S python3 -u\nexec /x\n").expect("script");
        assert_eq!((python.env.as_deref(), python.starts.len()), (Some("python3"), 0));
    }

    #[test]
    fn what_depends_on_a_variable_is_not_evident() {
        let script = Script::parse(b"#!/bin/bash\nexec \"$BIN\"\nexec $(which x)\n").expect("script");
        assert!(script.starts.is_empty(), "{script:?}");
        assert_eq!(Script::parse(b"\x7fELF"), None);
        assert_eq!(Script::parse(b"#!\n"), None);
    }
}
