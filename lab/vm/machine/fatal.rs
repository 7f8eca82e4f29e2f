//! Console lines after which a node cannot recover by itself.

/// A kind of console line that means the end of a node, with its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FatalPattern {
    /// Short name for reports.
    pub id: &'static str,
    /// A line matches if it contains all of these strings.
    pub all_of: &'static [&'static str],
    /// The event that the line reports.
    pub meaning: &'static str,
    /// Where to look next.
    pub hint: &'static str,
}

/// The table, from specific to general: the first match names the cause. It excludes warnings that an
/// overloaded emulation causes (soft lock-ups, RCU stalls, hung tasks), and all messages of an
/// intended reboot.
///
/// Sources: Linux `kernel/panic.c`, `init/main.c`, `mm/oom_kill.c`, `arch/arm64/kernel/traps.c`,
/// `kernel/exit.c`; Talos v1.11.5, v1.12.7, v1.13.9 and
/// v1.14.0-rc.1 `internal/app/init/main.go` (with a full stop), `internal/app/machined/main.go` (with a
/// comma) and `v1alpha1_sequencer_tasks.go`.
pub const FATAL_PATTERNS: &[FatalPattern] = &[
    FatalPattern {
        id: "init-exited",
        all_of: &["Kernel panic - not syncing", "Attempted to kill init"],
        meaning: "PID 1 of the node ended, so the kernel stopped",
        hint: "the lines above say what PID 1 did last; check that the image and the kernel belong together",
    },
    FatalPattern {
        id: "no-init",
        all_of: &["Kernel panic - not syncing", "No working init found"],
        meaning: "the kernel found no program to run as PID 1",
        hint: "the initramfs is empty, for another architecture, or compressed in a way this kernel cannot read",
    },
    FatalPattern {
        id: "no-root",
        all_of: &["Kernel panic - not syncing", "Unable to mount root fs"],
        meaning: "the kernel did not accept the initramfs and found no root file system",
        hint: "check that the initramfs is a cpio archive in a compression this kernel can read",
    },
    FatalPattern {
        id: "out-of-memory",
        all_of: &["Kernel panic - not syncing", "Out of memory"],
        meaning: "the node ran out of memory and nothing could be ended to free some",
        hint: "give the node more memory",
    },
    FatalPattern {
        id: "out-of-memory",
        all_of: &["Kernel panic - not syncing", "System is deadlocked on memory"],
        meaning: "the node ran out of memory and nothing could be ended to free some",
        hint: "give the node more memory",
    },
    FatalPattern {
        id: "kernel-panic",
        all_of: &["Kernel panic - not syncing"],
        meaning: "the kernel panicked",
        hint: "the line says why; the call trace in the console log says where",
    },
    FatalPattern {
        id: "init-oom-killed",
        all_of: &["Out of memory: Killed process 1 ("],
        meaning: "the kernel ended PID 1 to free memory",
        hint: "give the node more memory",
    },
    FatalPattern {
        id: "init-crashed",
        all_of: &["init[1]: unhandled"],
        meaning: "PID 1 of the node crashed",
        hint: "the lines around it give the fault; check the image against the CPU model in use",
    },
    FatalPattern {
        id: "kernel-oops",
        all_of: &["Internal error: Oops"],
        meaning: "the kernel crashed (oops)",
        hint: "the call trace in the console log says where; suspect the modules of the last extension added",
    },
    FatalPattern {
        id: "kernel-bug",
        all_of: &["kernel BUG at"],
        meaning: "the kernel found itself in an impossible state",
        hint: "the call trace in the console log says where; suspect the modules of the last extension added",
    },
    FatalPattern {
        id: "wrong-architecture",
        all_of: &["Failed to execute /init (error -8)"],
        meaning: "the image's PID 1 is not an arm64 program (exec format error)",
        hint: "build the image for arm64",
    },
    FatalPattern {
        id: "wrong-architecture",
        all_of: &["/init: exec format error"],
        meaning: "a program of the boot chain is not an arm64 program",
        hint: "build the image for arm64",
    },
    FatalPattern {
        id: "already-installed",
        all_of: &[
            "is already installed to disk but booted from another media and",
            "kernel parameter is set",
        ],
        meaning: "Talos found itself installed on the disk and was told to halt in that case",
        hint: "remove talos.halt_if_installed from the kernel arguments",
    },
    FatalPattern {
        id: "talos-init-halted",
        all_of: &["panic=0 kernel flag found. sleeping forever"],
        meaning: "Talos' /init could not switch to the root file system and, told panic=0, sleeps for the post-mortem",
        hint: "the lines above name the step that failed; the initramfs or an extension in it is damaged",
    },
    FatalPattern {
        id: "talos-halted",
        all_of: &["panic=0 kernel flag found, sleeping forever"],
        meaning: "Talos gave up its boot sequence and, told panic=0, sleeps for the post-mortem",
        hint: "the lines above name the failed task",
    },
];

/// The first table entry that `line` matches.
pub fn fatal_pattern(line: &str) -> Option<&'static FatalPattern> {
    FATAL_PATTERNS.iter().find(|pattern| pattern.all_of.iter().all(|part| line.contains(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(line: &str) -> Option<&'static str> {
        fatal_pattern(line).map(|pattern| pattern.id)
    }

    #[test]
    fn fatal_lines_are_known_by_their_most_special_cause() {
        let cases = [
            (
                "[    2.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
                "init-exited",
            ),
            ("Kernel panic - not syncing: No working init found.  Try passing init=", "no-init"),
            ("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", "no-root"),
            ("Kernel panic - not syncing: System is deadlocked on memory", "out-of-memory"),
            ("Kernel panic - not syncing: sysrq triggered crash", "kernel-panic"),
            ("Out of memory: Killed process 1 (init) total-vm:1kB", "init-oom-killed"),
            ("Internal error: Oops: 0000000096000004 [#1] SMP", "kernel-oops"),
            ("[talos] panic=0 kernel flag found, sleeping forever", "talos-halted"),
            ("[talos] [initramfs] panic=0 kernel flag found. sleeping forever", "talos-init-halted"),
            (
                "[talos] task haltIfInstalled (1/1): Talos is already installed to disk but booted from another media \
                 and talos.halt_if_installed kernel parameter is set. Please reboot from the disk.",
                "already-installed",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(id(line), Some(expected), "{line}");
        }
    }

    /// A node that boots as it should says nothing that ends a run.
    #[test]
    fn no_line_of_a_recorded_console_is_fatal() {
        let console = include_str!("../../../tests/recorded/talos-v1.13.9/console.log");
        assert!(console.lines().count() > 200);
        for line in console.lines() {
            assert_eq!(id(line), None, "{line}");
        }
    }

    #[test]
    fn warnings_reboots_and_other_processes_are_not_fatal() {
        for line in [
            "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [kubelet:812]",
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "reboot: Restarting system",
            "reboot: Power down",
            "Out of memory: Killed process 1234 (etcd) total-vm:1kB",
            "Kernel command line: console=ttyAMA0 panic=0 talos.halt_if_installed=1",
            "Run /init as init process",
        ] {
            assert_eq!(id(line), None, "{line}");
        }
    }

    #[test]
    fn an_earlier_entry_never_hides_a_later_one() {
        for (index, pattern) in FATAL_PATTERNS.iter().enumerate() {
            let line = pattern.all_of.join(" ");
            assert_eq!(
                fatal_pattern(&line).map(|found| found.all_of),
                Some(FATAL_PATTERNS[index].all_of),
                "{line}"
            );
        }
    }
}
