//! The imports as text and as a Mermaid diagram.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::workspace::{Workspace, parent};

type Counts = BTreeMap<(String, String), usize>;

/// Each crate with the crates that it uses, and each folder with the folders of its crate that it imports.
pub fn text(workspace: &Workspace) -> String {
    let mut out = String::from("crates\n");
    add_edges(&mut out, &crates(workspace));
    for member in &workspace.members {
        let edges = folders(workspace, &member.name, &member.folder);
        if !edges.is_empty() {
            let _ = writeln!(out, "\n{} ({})", member.name, member.folder);
            add_edges(&mut out, &edges);
        }
    }
    out
}

/// The same for a Markdown page: a graph of the crates, and within each crate that of its folders.
pub fn mermaid(workspace: &Workspace) -> String {
    let mut out = String::from("graph TD\n");
    for ((from, to), count) in crates(workspace) {
        let _ = writeln!(out, "  {from} -->|{count}| {to}");
    }
    for member in &workspace.members {
        let edges = folders(workspace, &member.name, &member.folder);
        if edges.is_empty() {
            continue;
        }
        let _ = writeln!(out, "  subgraph {0}-folders [{0}]", member.name);
        for ((from, to), count) in edges {
            let node = |folder: &str| format!("{}.{folder}[\"{folder}\"]", member.name);
            let _ = writeln!(out, "    {} -->|{count}| {}", node(&from), node(&to));
        }
        out.push_str("  end\n");
    }
    out
}

/// Every import with the line that it stands in.
pub fn files(workspace: &Workspace) -> String {
    let lines = workspace.imports.iter();
    lines.map(|import| format!("{}:{} -> {}\n", import.from, import.line, import.to)).collect()
}

fn add_edges(out: &mut String, edges: &Counts) {
    let width = edges.keys().map(|(from, _)| from.len()).max().unwrap_or_default();
    for ((from, to), count) in edges {
        let _ = writeln!(out, "  {from:width$} -> {to} ({count})");
    }
}

/// How many imports go from crate to crate.
fn crates(workspace: &Workspace) -> Counts {
    let ends = workspace
        .imports
        .iter()
        .map(|import| (workspace.owner(&import.from).to_owned(), workspace.owner(&import.to).to_owned()));
    counted(ends)
}

/// How many imports go from folder to folder of a crate, by their paths within it.
fn folders(workspace: &Workspace, member: &str, root: &str) -> Counts {
    let folder = |file: &str| match parent(file).strip_prefix(root).map(|path| path.trim_start_matches('/')) {
        None | Some("") => ".".to_owned(),
        Some(path) => path.to_owned(),
    };
    let within = workspace
        .imports
        .iter()
        .filter(|import| workspace.owner(&import.from) == member && workspace.owner(&import.to) == member);
    counted(within.map(|import| (folder(&import.from), folder(&import.to))))
}

fn counted(ends: impl Iterator<Item = (String, String)>) -> Counts {
    let mut counts = Counts::new();
    for ends in ends.filter(|(from, to)| from != to) {
        *counts.entry(ends).or_default() += 1;
    }
    counts
}
