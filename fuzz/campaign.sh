#!/bin/sh
# Fuzzes every target for SECONDS each (default 60), one after another, and tells for each: executions, coverage, inputs
# kept, peak memory, slowest input. Ends with the first crash, hang over 10 s or memory over 512 MiB; the input is kept
# below the work directory. Stable Rust does: what cargo-fuzz sets for coverage is set here, without a sanitizer.
#
#   fuzz/campaign.sh [SECONDS] [TARGET...]
#
# Every reader of bytes that come from elsewhere, and the target that covers it:
#
#   archive       lab/image/archive.rs          cpio archives
#   initramfs     lab/image/initramfs.rs        compressed and concatenated archives, with what is in them
#   squashfs      lab/image/squashfs*.rs        layers; contents.rs: what is looked for in them
#   extensions    lab/image/extensions.rs       extensions.yaml
#   service_spec  lab/image/service_spec.rs     specs of extension services
#   checksums     lab/image/checksums.rs        lists of sha256sum, of whole directories and of one file
#   kernel        lab/image/kernel.rs           Image, gzip, zboot, unified kernel image, one within the other
#   unified       lab/image/uki.rs              sections of unified kernel images
#   packed        lab/image/{compression,lz4}.rs  streams, legacy lz4 among them
#   disk          lab/image/{disk_image,fat}.rs   partition table and FAT
#   boot_entries  lab/image/boot_entries.rs     loader.conf and versions in names
#   image         lab/oci/images/{content,image,tar_files,files}.rs  layouts, archives, docker save: index, manifest, config, layers
#   lock          lab/model/source.rs, lab/oci/images/{names,lock}.rs   references and the lock file
#   config        lab/model/yaml.rs               machine configs
#   frames        lab/vm/network/{port,packet,services,handshake,egress,ntp}.rs  frames of guests, in QEMU's framing
#   dhcp, dns     lab/vm/network/{dhcp,dns}.rs      their datagrams
#   console       lab/vm/machine/{line,fatal}.rs    serial consoles
#   qmp           lab/vm/machine/qmp_event.rs       events of QEMU's monitor
#   kubeconfig    lab/cluster/machine_api/kubeconfig_archive.rs, lab/plan/config/kubeconfig.rs  the archive that a node sends
#   registry      lab/oci/registry/{request,content}.rs  paths and ranges that clients ask our registry for
#   mirror        lab/oci/registry/{store,manifest}.rs   the index of a mirror and the manifests that it lists
#   tailnet       lab/cluster/tailnet/{client_status,control_api,gateway_log}.rs  answers and logs of the tailnet's programs
#   recording     lab/report/{json_lines,laps,stopwatch}.rs, lab/report/merge  recordings of runs, and shards joined
#   redact        lab/model/redact.rs           texts of nodes, which are cleared of secrets
#   foreign       lab/model/foreign.rs          foreign texts on their way to terminals, logs, reports and JSON
#   nested        lab/model/yaml.rs             YAML before a parser without limits reads it
#   challenge     lab/oci/images/exchange.rs    how a registry wants to be authorized
#   module        lab/image/{kernel_module,module_signature,kernel_facts,module_index}.rs  kernel modules, their signatures, keys and lists
#   device_tree   lab/image/board_files.rs      device trees and overlays
#   containerd    lab/image/containerd.rs       containerd's program and configuration
#   container_layer  lab/oci/containers/{layer_facts,script}.rs  layers of container images, and wrapper scripts
#   release       lab/gate/release              release files and tags
#   texts         lab/gate/gather/{mentions,yaml_references,signed}.rs  documents, manifests, signed statements
#   gateway       lab/vm/network/gateway.rs     frames of guests to the gateway address
#
# Read by libraries alone: gRPC messages (tonic, prost) and the YAML in them, HTTP (reqwest, axum). A talosconfig is written and not read. Scenario files, secrets bundles and
# patches are the user's.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-60}
[ $# -gt 0 ] && shift
if [ $# -eq 0 ]; then
    for file in "$here"/targets/*.rs; do set -- "$@" "$(basename "$file" .rs)"; done
fi
work=${FUZZ_WORK:-$here/../target/fuzz}
mkdir -p "$work"
# Only programs for this machine get the flags, not build scripts: hence the explicit target.
machine=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
bins=$(printf -- '--bin %s ' "$@")
export CARGO_TARGET_DIR="$work/build"
build() { cargo build --quiet --profile fuzz --locked --manifest-path "$here/Cargo.toml" "$@"; }
build --bin seeds
# shellcheck disable=SC2086 # one argument a word is meant
RUSTFLAGS="$coverage" build --target "$machine" $bins
"$work/build/fuzz/seeds" "$work/seeds"

printf '%-14s %12s %9s %8s %10s %9s\n' target executions coverage inputs 'peak MiB' 'slowest s'
for target in "$@"; do
    mkdir -p "$work/corpus/$target" "$work/seeds/$target" "$work/found/$target"
    log="$work/$target.log"
    if ! "$work/build/$machine/fuzz/$target" "$work/corpus/$target" "$work/seeds/$target" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=512 -malloc_limit_mb=512 -max_len=65536 \
        -artifact_prefix="$work/found/$target/" -print_final_stats=1 >"$log" 2>&1; then
        echo "$target: found something; the end of $log:" >&2
        tail -n 25 "$log" >&2
        exit 1
    fi
    stat() { sed -n "s/^stat::$1: *//p" "$log"; }
    covered=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
    inputs=$(find "$work/corpus/$target" -type f | wc -l)
    printf '%-14s %12s %9s %8s %10s %9s\n' "$target" "$(stat number_of_executed_units)" "$covered" "$inputs" \
        "$(stat peak_rss_mb)" "$(stat slowest_unit_time_sec)"
done
