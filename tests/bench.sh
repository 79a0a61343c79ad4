#!/usr/bin/env bash
# Measures what Writ promises about speed, as ratios within one run: `tests/bench.sh [poll] [static] [proxy] [scale] [swap] [render] [verify] [race]`.
# Prints each ratio beside its limit, if it has one (the race has none), and fails if a limit is exceeded.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/need.sh

need cc build-essential git git ssh-keygen openssh-client nginx nginx-light fcgiwrap fcgiwrap haproxy haproxy
cargo build --release --workspace --locked
(cd state-repo-example/sources/web && cargo build --release --locked)
exec target/release/bench "$@"
