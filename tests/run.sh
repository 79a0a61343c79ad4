#!/usr/bin/env bash
# Everything that must hold before a change lands: formatting, lints and all tests. Needs git and a Rust toolchain;
# installs the rest with apt-get if it may, and otherwise says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/need.sh

if ! command -v cargo >/dev/null; then
    echo "missing: a Rust toolchain (https://rustup.rs)" >&2
    exit 1
fi
need cc build-essential git git ssh-keygen openssh-client bwrap bubblewrap systemd-analyze systemd \
    nginx nginx-light fcgiwrap fcgiwrap
for component in fmt clippy; do
    if ! cargo "$component" --version >/dev/null 2>&1; then
        rustup component add rustfmt clippy
    fi
done

step() { printf '\n== %s\n' "$*"; }

step "formatting"
cargo fmt --all --check
(cd state-repo-example/sources/web && cargo fmt --check)

step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
(cd state-repo-example/sources/web && cargo clippy --all-targets --locked -- -D warnings)

step "tests of the example's services"
(cd state-repo-example/sources/web && cargo test --locked)
(cd state-repo-example/sources/worker && ./test.sh)

step "tests"
# First the programs: the end-to-end tests run them from the target folder.
cargo build --workspace --locked
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked "$@"
else
    cargo test --workspace --locked "$@"
fi
