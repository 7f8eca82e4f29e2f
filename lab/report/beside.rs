//! The readable files in a run's directory beside the recording.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// Files with credentials, or files that only a running lab needs.
const LEFT_OUT: [&str; 4] = ["kubeconfig", "talosconfig", "lab.json", "lab.lock"];
/// Directories that only a running lab needs, or that contain keys.
const NOT_ENTERED: [&str; 2] = ["processes", "tailnet"];
/// File name extensions of readable files.
const READABLE: [&str; 9] = ["log", "txt", "json", "jsonl", "yaml", "diff", "sh", "pcap", "pcapng"];
/// The maximum number of listed files, more than any run usually has.
const LIMIT: usize = 500;

/// The readable files of a run, relative to its directory, sorted by name. Excludes files with
/// credentials.
pub(super) fn artefacts(directory: &Path) -> Vec<PathBuf> {
    let entered = |entry: &walkdir::DirEntry| {
        !(entry.file_type().is_dir() && NOT_ENTERED.iter().any(|name| entry.file_name() == *name))
    };
    let files = WalkDir::new(directory).max_depth(6).sort_by_file_name().into_iter().filter_entry(entered);
    files
        .flatten()
        .filter(|entry| entry.file_type().is_file() && LEFT_OUT.iter().all(|name| entry.file_name() != *name))
        .filter(|entry| {
            let ending = entry.path().extension().unwrap_or_default();
            READABLE.iter().any(|readable| ending == *readable)
        })
        .filter_map(|entry| entry.path().strip_prefix(directory).map(Path::to_owned).ok())
        .filter(|path| !super::files::ALL.iter().any(|name| path == Path::new(name)))
        .take(LIMIT)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_with_credentials_and_the_reports_themselves_are_not_listed() {
        let run = tempfile::tempdir().expect("tempdir");
        for file in [
            "nodes/cp-1/console.log",
            "nodes/cp-1/disk.raw",
            "kubeconfig",
            "talosconfig",
            "lab.json",
            "processes/cp-1-7.process.json",
            "tailnet/keys.txt",
            "bundle/README.txt",
            "report.html",
            "trace.json",
            "plan.json",
        ] {
            let path = run.path().join(file);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, "{}").expect("write");
        }
        let listed: Vec<_> = artefacts(run.path()).iter().map(|path| path.display().to_string()).collect();
        assert_eq!(listed, ["bundle/README.txt", "nodes/cp-1/console.log", "plan.json"]);
    }
}
