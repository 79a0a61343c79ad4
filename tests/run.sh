#!/usr/bin/env bash
# Everything that must hold before a change lands: formatting, lints and all tests. Needs git and a Rust toolchain;
# installs the rest with apt-get if it may, and otherwise says what to install.
#
#   tests/run.sh             all of it that needs no other version and no other account
#   tests/run.sh quick       formatting, lints and the unit tests: for the daily loop
#   tests/run.sh all         besides, the suites that build another version or act as other accounts; what CI runs
#   tests/run.sh attack      the attacks only: a line for each, with the code that refused it
#   tests/run.sh escape      what services, builds, local users and pushers try to break out: a line for each; needs root.
#                            With `--with DIR` against the programs `agent` and `policy` in DIR
#   tests/run.sh codes       the end-to-end tests only, then every refusal code with the case that earned it
#   tests/run.sh ceremony    the documented ceremonies only, with stock tools
#   tests/run.sh upgrade     upgrades and downgrades in mid-deployment; builds the version before (tests/previous), too
#   tests/run.sh ARGUMENT... all of it, but of the tests only those that these arguments of the test runner choose
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/need.sh

if ! command -v cargo >/dev/null; then
    echo "missing: a Rust toolchain (https://rustup.rs)" >&2
    exit 1
fi
need cc build-essential git git ssh-keygen openssh-client bwrap bubblewrap systemd-analyze systemd \
    nginx nginx-light fcgiwrap fcgiwrap faketime faketime strace strace

# Where the cases write which codes they earned (tests/src/earned.rs).
mkdir -p target
WRIT_EARNED=$(mktemp -d "$PWD/target/earned.XXXXXX")
export WRIT_EARNED

# A snapshot that differs is shown; what it would be now is not left beside it.
export INSTA_UPDATE=no

# What the tree differs in from its commit; the tests must leave it as they found it.
tree() { git status --porcelain 2>/dev/null || true; }
before=$(tree)

finish() {
    local code=$?
    rm -rf "$WRIT_EARNED"
    if [ "$(tree)" != "$before" ]; then
        echo "the tests changed the tree:" >&2
        tree >&2
        [ "$code" != 0 ] || code=1
    fi
    exit "$code"
}
trap finish EXIT

# suite NAME COMMAND... runs one suite and says how long it took.
suite() {
    local name=$1 begun=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@"
    printf '== %s: %s s\n' "$name" "$((SECONDS - begun))"
}

# First the programs: the end-to-end tests run them from the target folder. All of the workspace every time, so that no
# crate is built twice, with other features.
build() { cargo build --workspace --all-targets --locked; }

# Runs tests with the runner that is there.
run_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked "$@"
    else
        cargo test --locked "$@"
    fi
}

# The attacks share what they are made with, so they run in one process.
run_attacks() { cargo test --workspace --test attack --locked --quiet -- "$@"; }

# So do what services, builds, accounts and pushers try; without root it says why it cannot.
run_escapes() { cargo test --workspace --test escape --locked --quiet -- "$@"; }

# The agent of this version, of a future one and of the one before, in every mix.
run_upgrades() {
    cargo build --workspace --locked --features agent/future --bin agent-future
    build_previous
    cargo test --workspace --test upgrade --locked --quiet -- "$@"
}

# Builds the agent of the version before beside this one, from the commit that tests/previous names. Says why if it cannot.
build_previous() {
    local commit source
    commit=$(cat tests/previous)
    source=target/previous-$commit
    if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
        echo "skipped: the version before is not in this clone ($commit); a deeper clone has it"
        rm -f target/debug/agent-previous
        return
    fi
    if [ ! -d "$source" ]; then
        rm -rf target/previous-*
        mkdir -p "$source.new"
        git archive "$commit" | tar -x -C "$source.new"
        mv "$source.new" "$source"
        # It gets a name of its own, so that it is not built over this one.
        printf '\n[[bin]]\nname = "agent-previous"\npath = "src/main.rs"\n' >>"$source/agent/Cargo.toml"
    fi
    # The same target folder: most of what it depends on is built there.
    CARGO_TARGET_DIR=$PWD/target cargo build --manifest-path "$source/Cargo.toml" --workspace --locked --bin agent-previous
}

# list_codes [missing] prints every code with the first case that earned it, or only what is missing; fails if any is.
list_codes() {
    local code codes all missing=0
    # The page is made from the list in the code, which a test asserts.
    codes=$(sed -n 's/^| `\([A-Z0-9_]*\)` .*/\1/p' docs/refusal-codes.md)
    for code in $codes; do
        if [ ! -s "$WRIT_EARNED/$code" ]; then
            missing=$((missing + 1))
            printf '%-24s %s\n' "$code" "MISSING: no end-to-end case earned it"
        elif [ "${1-}" != missing ]; then
            printf '%-24s %s\n' "$code" "$(sort -u "$WRIT_EARNED/$code" | head -n 1)"
        fi
    done
    all=$(wc -w <<<"$codes")
    echo "$all codes, $((all - missing)) earned, $missing missing"
    [ "$missing" = 0 ]
}

case ${1-} in
attack)
    build
    shift
    run_attacks "$@"
    exit
    ;;
escape)
    build
    shift
    run_escapes "$@"
    exit
    ;;
codes)
    build
    run_attacks
    run_tests --workspace --test '*'
    suite "refusal codes" list_codes
    exit
    ;;
upgrade)
    build
    shift
    run_upgrades "$@"
    exit
    ;;
ceremony)
    build
    run_tests --workspace --test ceremony
    exit
    ;;
esac

for component in fmt clippy; do
    if ! cargo "$component" --version >/dev/null 2>&1; then
        rustup component add rustfmt clippy
    fi
done

formatting() {
    cargo fmt --all --check
    (cd state-repo-example/sources/web && cargo fmt --check)
}

lints() { cargo clippy --workspace --all-targets --locked -- -D warnings; }

example() {
    (cd state-repo-example/sources/web && cargo clippy --all-targets --locked -- -D warnings && cargo test --locked)
    (cd state-repo-example/sources/worker && ./test.sh)
}

suite "formatting" formatting
suite "lints" lints
case ${1-} in
quick)
    suite "unit tests" run_tests --workspace --lib
    exit
    ;;
'' | all)
    suite "tests of the example's services" example
    suite "build" build
    suite "attacks" run_attacks
    suite "tests" run_tests --workspace
    suite "refusal codes that no end-to-end case earned" list_codes missing
    if [ "${1-}" = all ]; then
        suite "escapes" run_escapes
        suite "upgrades" run_upgrades
    fi
    ;;
*)
    suite "build" build
    suite "tests" run_tests --workspace "$@"
    ;;
esac
