# The lab and everything that it boots, for hosts without build tools: `docker build --tag lab .`
#
#   docker run --rm --volume "$PWD/results:/results" lab                      every scenario, emulated
#   docker run --rm --device /dev/kvm --group-add "$(stat -c %g /dev/kvm)" …  with KVM, on an arm64 host
#   docker run --rm lab target/debug/lab --help                               any other command
#
# Settings are LAB_ variables (docs/ci.md). deploy/kubernetes runs it as an Indexed Job.

FROM rust:1.95-trixie AS build
WORKDIR /lab
COPY scripts/setup scripts/setup
# Nothing of the build needs root: the tree of the node images is unpacked without.
RUN scripts/setup && useradd --create-home lab && chown -R lab /lab
USER lab
COPY --chown=lab . .
RUN cargo build --locked --bin lab && target/debug/lab image build && target/debug/lab image programs
# What is linked to is kept, what it was made from is not.
RUN mkdir -p /lab/out/images && cp -RL target/images/compute target/images/gateway target/images/workloads \
      target/images/tailnet /lab/out/images && cp target/debug/lab /lab/out

FROM debian:trixie-slim
RUN apt-get update -q && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends qemu-system-arm ca-certificates && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --create-home --uid 1000 lab && mkdir -p /lab/target/lab /results && chown -R lab /lab /results
WORKDIR /lab
COPY --chown=lab scripts/ci scripts/ci
COPY --from=build --chown=lab /lab/out/lab target/debug/lab
COPY --from=build --chown=lab /lab/out/images target/images
USER 1000
ENV LAB_REPORT=/results/report
CMD ["scripts/ci/run"]
