//! The image of a board has its device trees and overlays, and drivers for the devices in them.

use std::collections::BTreeSet;

use lab_image::compatible_of;

use super::{Looked, Rule};
use crate::{
    evidence::{BoardFacts, DeviceTreeFile, Evidence, ModuleSet, NodeEvidence},
    release::Board,
};

pub(super) const RULE: Rule = Rule {
    name: "boards",
    holds: "the image of a board has its device trees, its overlays, and drivers for their devices",
    subjects: "device trees, overlays and devices",
    look,
};

fn look(evidence: &Evidence) -> Looked {
    let mut looked = Looked::default();
    for node in &evidence.nodes {
        let board = node.board.as_ref().and_then(|name| evidence.release.boards.get(name));
        let (Ok(facts), Some(board)) = (&node.facts, board) else { continue };
        // Kernel and initramfs alone have no device trees; the other forms of the image have.
        let Some(files) = facts.board.as_ref().filter(|files| !files.files.is_empty()) else { continue };
        one_form(&mut looked, node, board, files, &facts.modules);
    }
    for (name, board) in &evidence.release.boards {
        let mut forms = evidence.nodes.iter().filter(|node| node.board.as_ref() == Some(name)).peekable();
        let wants = board.device_trees.len() + board.overlays.len() + board.devices.len() > 0;
        let has_some = |node: &NodeEvidence| {
            let files = node.facts.as_ref().ok().and_then(|facts| facts.board.as_ref());
            files.is_some_and(|files| !files.files.is_empty())
        };
        if wants && forms.peek().is_some() && !forms.any(has_some) {
            looked.at_one();
            let cause = format!("no image of the board {name} has a device tree");
            let remedy = "name its installer or raw image, which have the device trees";
            looked.error(&evidence.release.file, cause, remedy);
        }
    }
    looked
}

fn one_form(
    looked: &mut Looked,
    node: &NodeEvidence,
    board: &Board,
    files: &BoardFacts,
    modules: &ModuleSet,
) {
    let named = [("device tree", &board.device_trees), ("overlay", &board.overlays)];
    let mut devices: Vec<&BTreeSet<String>> = Vec::new();
    for (what, names) in named {
        for name in names {
            looked.at_one();
            let Some(file) = files.files.iter().find(|file| is_named(file, name)) else {
                let cause = format!("has no {what} {name}");
                looked.error(&node.place(), cause, "add it to the overlay of the board, or correct its name");
                continue;
            };
            let place = format!("{}, {}, {}", node.place(), file.within, file.path);
            match &file.devices {
                Err(why) => {
                    looked.error(&place, format!("does not decode: {why}"), "build the device tree again")
                }
                Ok(found) if what == "overlay" => {
                    for device in found.iter().filter(|device| driver(device, modules).is_none()) {
                        let cause = format!(
                            "adds a device ({}) without a driver in the kernel or its modules",
                            list(device)
                        );
                        looked.error(&place, cause, "build the driver, or leave the overlay out");
                    }
                }
                Ok(found) => devices.extend(found),
            }
        }
    }
    for wanted in &board.devices {
        looked.at_one();
        let found: Vec<_> = devices.iter().filter(|device| device.contains(wanted)).collect();
        if found.is_empty() {
            let cause = format!("no device tree of the board has an enabled device {wanted}");
            looked.error(&node.place(), cause, "correct the name, or add the device to the device tree");
        } else if !found.iter().any(|device| driver(device, modules).is_some()) {
            let cause = format!("the device {wanted} has no driver in the kernel or its modules");
            looked.error(&node.place(), cause, "build the driver into the kernel, or add its module");
        }
    }
}

fn is_named(file: &DeviceTreeFile, name: &str) -> bool {
    let path = file.path.to_lowercase();
    let name = name.to_lowercase();
    path == name || path.ends_with(&format!("/{name}"))
}

fn list(device: &BTreeSet<String>) -> String {
    device.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The module, built in or not, that drives a device with one of these values of `compatible`.
fn driver<'a>(device: &BTreeSet<String>, modules: &'a ModuleSet) -> Option<&'a str> {
    let fits = |alias: &str| compatible_of(alias).is_some_and(|compatible| device.contains(compatible));
    let built_in = modules.built_in_aliases.iter().find(|(alias, _)| fits(alias));
    let file = || modules.read().find(|(_, module)| module.aliases.iter().any(|alias| fits(alias)));
    built_in.map(|(_, module)| module.as_str()).or_else(|| Some(file()?.1.name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        release::Form,
        rules::fixture::{self, Node},
    };

    const TREE: &str = "bcm2712-rpi-5-b.dtb";

    fn found(trees: &[(&str, &str)], board: Board) -> Vec<String> {
        let mut evidence =
            fixture::evidence(vec![Node::new("compute").form(Form::Installer).board("rpi5").read()]);
        evidence.release.boards.insert("rpi5".into(), board);
        let files = trees.iter().map(|(path, compatible)| DeviceTreeFile {
            within: "installer".into(),
            path: (*path).to_owned(),
            devices: if compatible.is_empty() {
                Err("it is truncated".into())
            } else {
                Ok(vec![[(*compatible).to_owned()].into()])
            },
        });
        evidence.nodes[0].facts.as_mut().expect("facts").board = Some(BoardFacts { files: files.collect() });
        fixture::found(&RULE, &evidence)
    }

    fn board(trees: &[&str], overlays: &[&str], devices: &[&str]) -> Board {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Board { device_trees: owned(trees), overlays: owned(overlays), devices: owned(devices) }
    }

    #[test]
    fn a_board_with_its_trees_and_drivers_passes() {
        // The module `base` of the fixture drives `test,base`, and the kernel has `test,built-in`.
        let trees = [("dtb/broadcom/bcm2712-rpi-5-b.dtb", "test,base"), ("overlays/x.dtbo", "test,built-in")];
        assert_eq!(found(&trees, board(&[TREE], &["x.dtbo"], &["test,base"])), [""; 0]);
    }

    #[test]
    fn a_missing_and_a_broken_tree_are_told() {
        let place = "compute (compute/metal installer)";
        assert_eq!(
            found(&[("other.dtb", "a,b")], board(&[TREE], &[], &[])),
            [format!("{place}: has no device tree {TREE}")]
        );
        let broken = found(&[(TREE, "")], board(&[TREE], &[], &[]));
        assert_eq!(broken, [format!("{place}, installer, {TREE}: does not decode: it is truncated")]);
        assert_eq!(
            found(&[], board(&[TREE], &[], &[])),
            ["release.yaml: no image of the board rpi5 has a device tree"]
        );
    }

    #[test]
    fn a_device_without_a_driver_is_told() {
        let place = "compute (compute/metal installer)";
        let device = found(&[(TREE, "vendor,nic")], board(&[TREE], &[], &["vendor,nic", "vendor,gone"]));
        let expected = [
            format!("{place}: the device vendor,nic has no driver in the kernel or its modules"),
            format!("{place}: no device tree of the board has an enabled device vendor,gone"),
        ];
        assert_eq!(device, expected);
        let overlay = found(&[("x.dtbo", "vendor,nic")], board(&[], &["x.dtbo"], &[]));
        assert!(overlay[0].contains("adds a device (vendor,nic) without a driver"), "{overlay:?}");
    }
}
