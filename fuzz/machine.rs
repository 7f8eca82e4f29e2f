//! Readers of what a VM and its QEMU say.

use lab_vm::machine::{LineSplitter, fatal_pattern, fuzzed::translate};

fn lines(chunks: &[&[u8]]) -> Vec<String> {
    let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
    for chunk in chunks {
        splitter.push(chunk, |line| lines.push(line));
    }
    lines.extend(splitter.finish());
    lines
}

/// The bytes of a serial console, which arrive in parts.
pub fn console(data: &[u8]) {
    let whole = lines(&[data]);
    for line in &whole {
        assert!(!line.contains(char::is_control), "a control character is left in {line:?}");
        if let Some(pattern) = fatal_pattern(line) {
            assert!(pattern.all_of.iter().all(|part| line.contains(part)), "{line:?} is not {}", pattern.id);
        }
    }
    let (first, second) = data.split_at(data.len() / 2);
    assert_eq!(lines(&[first, second]), whole, "where a read ends matters");
}

/// Events of QEMU's monitor, a line each.
pub fn qmp(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(event) = serde_json::from_slice::<qapi::qmp::Event>(line)
            && let Some(event) = translate(&event)
        {
            assert!(!event.to_string().is_empty());
        }
    }
}
