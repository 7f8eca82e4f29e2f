use lab_image_fixtures::squashfs;

use super::*;

const TAILSCALE: &str = "\
name: tailscale
depends:
  - service: cri
  - path: /dev/net/tun
  - network: [addresses, connectivity]
  - time: true
  - configuration: true
container: {entrypoint: /usr/local/bin/containerboot}
restart: always
";
const SPIN: &str = "\
[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.spin]
runtime_type = \"io.containerd.runc.v2\"
[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.spin.options]
SystemdCgroup = false
";

fn layer(name: &str, files: &[(&str, &str)]) -> LayerContents {
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
    LayerContents::read(name, std::io::Cursor::new(squashfs(&files))).expect("layer")
}

fn extension(name: &str, layer: &str) -> Extension {
    let text = format!("layers: [{{image: {layer}, metadata: {{name: {name}, version: v1}}}}]");
    Extension::parse(text.as_bytes()).expect("extension").remove(0)
}

#[test]
fn services_handlers_modules_and_version_come_from_their_places() {
    let root = layer(
        "rootfs.sqsh",
        &[
            ("usr/lib/modules/6.12/kernel/lib/libcrc32c.ko", ""),
            ("usr/lib/os-release", "NAME=\"Talos\"\nPRETTY_NAME=\"Talos (v1.11.5)\"\n"),
        ],
    );
    let drbd = layer(
        "0.sqsh",
        &[
            ("usr/lib/modules/6.12/kernel/drivers/drbd-9.ko.xz", ""),
            ("usr/lib/modules/6.12/kernel/lib/libcrc32c.ko", ""),
        ],
    );
    let spin = layer("1.sqsh", &[("etc/cri/conf.d/10-spin.part", SPIN), ("etc/cri/conf.d/README", "x")]);
    let tailscale = layer("2.sqsh", &[("usr/local/etc/containers/tailscale.yaml", TAILSCALE)]);
    let extensions = [
        extension("drbd", "0.sqsh"),
        extension("spin", "1.sqsh"),
        extension("tailscale", "2.sqsh"),
        extension("modules.dep", "3.sqsh"),
    ];
    let contents = Contents::of(&extensions, &[tailscale, drbd, spin, root]);
    assert_eq!(contents.extensions, extensions[..3]);
    assert_eq!(contents.runtime_handlers, ["spin"]);
    assert_eq!(contents.kernel_modules, ["drbd-9"]);
    assert_eq!(contents.node_version.as_deref(), Some("Talos (v1.11.5)"));
    let depends =
        ["service cri", "path /dev/net/tun", "network addresses, connectivity", "time", "configuration"];
    let service = ExtensionService {
        id: "ext-tailscale".into(),
        extension: "tailscale".into(),
        depends: depends.map(str::to_owned).into(),
        needs_configuration: true,
        impossible_mounts: Vec::new(),
    };
    assert_eq!(contents.services, [service]);
}

#[test]
fn the_version_is_read_from_etc_as_talos_reads_it() {
    let talos = ("etc/os-release", "PRETTY_NAME=\"Talos (v1.13.9)\"\n");
    let debian = ("usr/lib/os-release", "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n");
    let version = |files: &[(&str, &str)]| Contents::of(&[], &[layer("rootfs.sqsh", files)]).node_version;
    assert_eq!(version(&[talos, debian]).as_deref(), Some("Talos (v1.13.9)"));
    assert_eq!(version(&[debian]).as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
}

#[test]
fn a_later_layer_covers_the_file_of_an_earlier_one() {
    let path = "usr/local/etc/containers/tailscale.yaml";
    let layers = [layer("1.sqsh", &[(path, "name: tailscale\n")]), layer("0.sqsh", &[(path, TAILSCALE)])];
    let extensions = [extension("old", "0.sqsh"), extension("new", "1.sqsh")];
    let services = Contents::of(&extensions, &layers).services;
    assert_eq!(services.len(), 1);
    assert_eq!((services[0].extension.as_str(), services[0].needs_configuration), ("new", false));
}

#[test]
fn a_broken_file_is_named_with_its_layer() {
    let read = |path: &str, text: &str| {
        let bytes = squashfs(&[(path, text.as_bytes())]);
        LayerContents::read("4.sqsh", std::io::Cursor::new(bytes)).expect_err("broken").to_string()
    };
    let spec = read("usr/local/etc/containers/x.yaml", "depends: [");
    assert!(spec.starts_with("layer 4.sqsh, usr/local/etc/containers/x.yaml: not the spec"), "{spec}");
    let part = read("etc/cri/conf.d/x.part", "[plugins");
    assert!(part.starts_with("layer 4.sqsh, etc/cri/conf.d/x.part: not TOML at byte "), "{part}");
}
