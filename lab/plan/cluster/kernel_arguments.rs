//! The kernel arguments of a node: those of its image, and the lab's changes with their reasons.

use lab_model::accelerator::Accelerator;
use serde::Serialize;

use super::prepared_image::PreparedImage;
use crate::config::{GODEBUG, GOGC, GOMAXPROCS, TalosContract, TalosRelease};

/// The kernel arguments of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelArguments {
    /// The command line.
    pub text: String,
    /// The origin of the arguments that the lab does not set.
    pub from: String,
    /// The lab's differences from the image's arguments, each with its reason.
    pub changes: Vec<String>,
}

/// The maximum length of a command line in bytes (Linux, `COMMAND_LINE_SIZE` of arm64, with the final zero).
pub(super) const COMMAND_LINE_SIZE: usize = 2048;

const WRITE_BACK: &str =
    "the check power-cycle waits until the node's files are on its disk: seconds instead of half a minute";

/// The lab's arguments. An argument replaces all arguments of the image with the same key.
const LAB: &[(&str, &str)] = &[
    ("talos.platform=metal", "no cloud answers"),
    ("slab_nomerge", "Talos insists on it"),
    ("pti=on", "Talos insists on it"),
    ("console=ttyAMA0", "the lab reads the serial console"),
    ("printk.devkmsg=on", "without it the kernel drops lines of Talos"),
    ("init_on_alloc=0", "a new guest's memory is zero already"),
    ("panic=0", "a node that crashed stays for the post-mortem"),
    ("net.ifnames=0", "the network card is eth0 with every kernel"),
    ("talos.dashboard.disabled=1", "the node has no screen"),
    ("sysctl.vm.dirty_expire_centisecs=300", WRITE_BACK),
    ("sysctl.vm.dirty_writeback_centisecs=100", WRITE_BACK),
    ("talos.auditd.disabled=1", "the lab does not read the audit log"),
    (
        "mitigations=off",
        "emulated processors do not speculate, and the safeguards cost time at each system call",
    ),
];

/// Loads programs at the same addresses at each start. TCG translates code per virtual address, so random
/// addresses force a new translation at each start of a shim, a runtime or a network plugin.
const FIXED_ADDRESSES: (&str, &str) =
    ("norandmaps", "emulation translates a program again for each address that it is loaded at");

/// What every node without an accelerator gets.
const EMULATED: [(&str, &str); 4] = [
    (
        "highres=off",
        "a Go program sleeps for 20 µs at a time while it looks for work; with timers that expire at ticks, the nodes \
         of a cluster need a quarter less CPU time under emulation",
    ),
    ("randomize_kstack_offset=off", HARDENING),
    ("hardened_usercopy=off", HARDENING),
    ("kfence.sample_interval=0", HARDENING),
];

const HARDENING: &str = "the guest's own hardening costs emulation time at each system call";

/// What emulated Talos nodes get besides ([`crate::config::LabPatchId::GoRuntime`]). `talos.environment` adds to the
/// environment of all services, besides those of the image and of the config (`environment.Get` of machined).
const GO_RUNTIME: [(&str, &str, &str); 3] = [
    ("GOGC", GOGC, "under emulation, garbage collection takes a fifth of the start of a service"),
    (
        "GODEBUG",
        GODEBUG,
        "under emulation, most work takes longer than the 10 ms after which a goroutine is interrupted, and the \
         post-quantum key exchange triples the cost of a TLS handshake",
    ),
    (
        "GOMAXPROCS",
        GOMAXPROCS,
        "a Go program wakes a thread for each piece of work, and under emulation that costs more than most pieces",
    ),
];

/// Arguments that the lab removes: a node must wait in maintenance mode for the lab's config.
const REMOVED: &[(&str, &str)] = &[
    ("talos.config", "the lab gives nodes their configs"),
    ("talos.halt_if_installed", "the disk of a lab's node counts as installed"),
];

impl KernelArguments {
    /// Returns the arguments for an image of a Talos release. Without a release, returns the arguments for the
    /// reference node: those of the newest release of its contract.
    pub(super) fn of(
        image: &PreparedImage,
        contract: TalosContract,
        release: Option<&TalosRelease>,
        accelerator: Accelerator,
    ) -> Self {
        let own = image.arguments.as_deref();
        if let Some(release) = release {
            return Self::new(own, release, false, accelerator);
        }
        let mut arguments = Self::new(own, &TalosRelease::newest_of(contract), true, accelerator);
        arguments.push(&format!("lab.talos-contract={}", contract.as_str()));
        arguments
    }

    /// Returns the image's own arguments (those of a unified kernel image), otherwise the defaults of its
    /// release, with the lab's changes.
    fn new(own: Option<&str>, release: &TalosRelease, is_reference: bool, accelerator: Accelerator) -> Self {
        let (from, image): (String, Vec<String>) = match own {
            Some(own) => ("the image".to_owned(), own.split_whitespace().map(str::to_owned).collect()),
            None => {
                let defaults = release.kernel_arguments().into_iter().map(str::to_owned).collect();
                (format!("the defaults of Talos {release}"), defaults)
            }
        };
        let mut lab = LAB.to_vec();
        // Later releases undo it at boot.
        if is_reference || !release.randomizes_addresses() {
            lab.push(FIXED_ADDRESSES);
        }
        if accelerator == Accelerator::Tcg {
            lab.extend(EMULATED);
        }
        let mut changes = Vec::new();
        for (key_removed, reason) in REMOVED {
            let gone: Vec<_> = image.iter().filter(|argument| key(argument) == *key_removed).collect();
            changes.extend(gone.into_iter().map(|argument| format!("without {argument}: {reason}")));
        }
        let mut added = Vec::new();
        for (argument, reason) in lab {
            let theirs: Vec<_> =
                image.iter().filter(|theirs| key(theirs) == key(argument)).map(String::as_str).collect();
            // An empty value is the same to the kernel.
            if theirs.len() == 1 && theirs[0].trim_end_matches('=') == argument {
                continue;
            }
            let replaced = match theirs.is_empty() {
                true => String::new(),
                false => format!(" in place of {}", theirs.join(" ")),
            };
            changes.push(format!("{argument}{replaced}: {reason}"));
            added.push(argument);
        }
        let kept = image.iter().map(String::as_str).filter(|argument| {
            let removed = REMOVED.iter().any(|(key_removed, _)| *key_removed == key(argument));
            !removed && !added.iter().any(|lab| key(lab) == key(argument))
        });
        let text = kept.chain(added.iter().copied()).collect::<Vec<_>>().join(" ");
        Self { text, from, changes }
    }

    /// Adds the settings of the Go runtime for a Talos node, beside other arguments with the same key.
    pub(super) fn tune_go(&mut self) {
        for (variable, value, reason) in GO_RUNTIME {
            let argument = format!("talos.environment={variable}={value}");
            self.push(&argument);
            self.changes.push(format!("{argument}: {reason}"));
        }
    }

    /// Adds an argument of this run only.
    pub(super) fn push(&mut self, argument: &str) {
        self.text.push(' ');
        self.text.push_str(argument);
    }
}

fn key(argument: &str) -> &str {
    argument.split_once('=').map_or(argument, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(own: Option<&str>, release: &str) -> KernelArguments {
        KernelArguments::new(own, &release.parse().expect("release"), false, Accelerator::Tcg)
    }

    fn has(arguments: &KernelArguments, argument: &str) -> bool {
        arguments.text.split(' ').any(|one| one == argument)
    }

    #[test]
    fn what_talos_requires_is_there_for_each_release() {
        for release in ["v1.11.5", "v1.12.7", "v1.13.9", "v1.14.0-rc.1"] {
            let arguments = of(None, release);
            for required in ["talos.platform=metal", "slab_nomerge", "pti=on", "console=ttyAMA0", "selinux=1"]
            {
                assert!(has(&arguments, required), "{release} {required}: {}", arguments.text);
            }
            assert_eq!(has(&arguments, "module.sig_enforce=1"), release != "v1.11.5", "{release}");
        }
        assert!(has(&of(None, "v1.13.9"), "proc_mem.force_override=never"));
    }

    #[test]
    fn fixed_addresses_are_asked_for_only_where_the_node_leaves_them() {
        assert!(has(&of(None, "v1.11.5"), "norandmaps"));
        assert!(!has(&of(None, "v1.13.9"), "norandmaps"));
        let release = "v1.13.9".parse().expect("release");
        assert!(has(&KernelArguments::new(None, &release, true, Accelerator::Kvm), "norandmaps"));
    }

    #[test]
    fn timers_of_emulated_nodes_expire_at_ticks_whatever_the_image_says() {
        let arguments = of(Some("highres=on pti=on"), "v1.13.9");
        assert!(has(&arguments, "highres=off") && !has(&arguments, "highres=on"), "{}", arguments.text);
        let change = "highres=off in place of highres=on: ";
        assert!(arguments.changes.iter().any(|line| line.starts_with(change)), "{:?}", arguments.changes);
        let release = "v1.13.9".parse().expect("release");
        let fast = KernelArguments::new(None, &release, false, Accelerator::Kvm);
        assert!(!fast.text.contains("highres"), "{}", fast.text);
    }

    #[test]
    fn the_environment_of_the_image_stays_beside_that_of_the_lab() {
        let mut arguments = of(Some("talos.environment=http_proxy=http://10.5.0.1:3128"), "v1.13.9");
        arguments.tune_go();
        for one in ["http_proxy=http://10.5.0.1:3128", "GOGC=400", "GODEBUG=asyncpreemptoff=1,tlsmlkem=0"] {
            assert!(has(&arguments, &format!("talos.environment={one}")), "{one}: {}", arguments.text);
        }
        assert!(arguments.changes.iter().any(|change| change.starts_with("talos.environment=GOGC=400: ")));
    }

    #[test]
    fn the_arguments_of_the_image_win_over_the_table_and_each_change_is_told() {
        let own = "talos.platform=metal console=ttyAMA0 console=tty0 init_on_alloc=1 slab_nomerge= pti=on \
                   talos.config=https://example.com/c net.ifnames=1 lsm.debug";
        let arguments = of(Some(own), "v1.13.9");
        assert_eq!(arguments.from, "the image");
        assert!(has(&arguments, "lsm.debug") && has(&arguments, "slab_nomerge="), "{}", arguments.text);
        for absent in ["console=tty0", "init_on_alloc=1", "module.sig_enforce=1", "net.ifnames=1"] {
            assert!(!has(&arguments, absent), "{absent}: {}", arguments.text);
        }
        assert!(!arguments.text.contains("talos.config"), "{}", arguments.text);
        let changes = arguments.changes.join("\n");
        for change in [
            "without talos.config=https://example.com/c: ",
            "console=ttyAMA0 in place of console=ttyAMA0 console=tty0: ",
            "init_on_alloc=0 in place of init_on_alloc=1: ",
            "mitigations=off: ",
        ] {
            assert!(changes.contains(change), "{change} is not in {changes}");
        }
        assert!(!changes.contains("pti=on"), "{changes}");
    }
}
