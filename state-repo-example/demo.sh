#!/usr/bin/env bash
# The main job from end to end on this machine, with throw-away keys: a signed commit goes live, a second one swaps under
# load, bad commits are refused, bad releases are rolled back. Leaves the service to look at until Ctrl-C.
#
#   demo.sh [--check] [--no-sandbox]
#
# --check       unattended: asserts all of it, then ends with one line of figures
# --no-sandbox  builds without bubblewrap
set -euo pipefail
example=$(cd "$(dirname "$0")" && pwd)
cd "$example/.."
. tests/need.sh

check=false sandbox=bubblewrap
for argument in "$@"; do
    case $argument in
        --check) check=true ;;
        --no-sandbox) sandbox=none ;;
        *) echo "usage: demo.sh [--check] [--no-sandbox]" >&2; exit 2 ;;
    esac
done

deployments=0 refused=0 rollbacks=0 sent=0 failed=0 load=

# --- helpers -----------------------------------------------------------------------------------------------------------

say() { printf '\n== %s\n' "$*"; }

# Prints a command and runs it.
show() {
    printf '$ %s\n' "$*"
    "$@"
}

die() {
    printf 'demo: %s\n' "$*" >&2
    if [ -e "$dir/agent.log" ]; then
        agent status >&2 || true
        tail -n 40 "$dir/agent.log" >&2
    fi
    exit 1
}

# within SECONDS WHAT COMMAND...: asks until the command succeeds; dies when the time is over.
within() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $deadline ] || die "$what: not in time"
        sleep 0.2
    done
}

agent() { "$bin/agent" --root "$dir/host" "$@"; }
policy() { "$bin/policy" "$@"; }

# answer PATH: what the service web answers, through the proxy.
answer() {
    exec 3<>"/dev/tcp/127.0.0.1/$web_port" || return 1
    printf 'GET %s HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n' "$1" >&3
    cat <&3
    exec 3>&-
} 2>/dev/null

answers() { answer / | grep "$1" >/dev/null; }
# all_live: every service runs what was admitted for it, and nothing is under way or held.
all_live() { agent status >/dev/null 2>&1 && [ "$(grep -c '"phase": "live"' <<<"$(status)")" = 3 ]; }
held() { grep -q '"held": {' <<<"$(status)"; }
# status: for programs; its exit code says whether all is well, which is not asked here.
status() { agent status --json 2>/dev/null || true; }

# free_port: a port of loopback that nobody listens on.
free_port() {
    local port
    while :; do
        port=$((10000 + RANDOM % 10000))
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# push MESSAGE: commits everything in this clone, signed, and pushes it.
push() {
    git add -A
    git commit -q -m "$1"
    show git push -q origin main
}

# refused CODE WHY: pushes what is committed, expects that code, and takes the commit back.
refused() {
    local said
    if said=$(git push -q origin main 2>&1); then
        die "$2 was not refused"
    fi
    printf '%s\n' "$said"
    grep -q "$1" <<<"$said" || die "$2 was refused, but not with $1"
    git reset -q --hard origin/main
    refused=$((refused + 1))
    answers "web $version" || die "the service does not answer after $1"
}

# The client: an open loop over 50 kept-alive connections that POSTs and repeats nothing.
load_begin() {
    "$bin/load" --url "http://127.0.0.1:$web_port/echo" --connections 50 --rate 400 --seconds 600 >"$dir/load.json" &
    load=$!
}

load_end() {
    kill "$load"
    wait "$load" || true
    load=
    # Each release that answered is a key of 64 hex digits.
    answered=$(grep -o '"[0-9a-f]\{64\}":' "$dir/load.json" | wc -l)
    echo "load: $(figure sent) requests sent, $(figure failed) failed, releases that answered: $answered"
    sent=$((sent + $(figure sent)))
    failed=$((failed + $(figure failed)))
    [ "$(figure failed)" = 0 ] || die "requests failed: $(cat "$dir/load.json")"
}

figure() { grep -o "\"$1\":[0-9]*" "$dir/load.json" | cut -d: -f2; }

# Ends everything that was started here: the load, and the processes that name the demo's own folder.
clean_up() {
    trap - EXIT INT TERM
    local round pids pid
    cd /
    [ -z "$load" ] || kill "$load" 2>/dev/null || true
    for round in TERM TERM TERM KILL KILL KILL KILL; do
        pids=$(grep -lsF "$dir" /proc/[0-9]*/cmdline /proc/[0-9]*/environ | cut -d/ -f3 | sort -u || true)
        for pid in $pids; do
            [ "$pid" = $$ ] || kill -"$round" "$pid" 2>/dev/null || true
        done
        sleep 0.3
    done
    rm -rf "$dir"
}

# --- set-up ------------------------------------------------------------------------------------------------------------

need git git ssh-keygen openssh-client cc build-essential
if [ $sandbox = bubblewrap ]; then
    need bwrap bubblewrap || { echo "or run this with --no-sandbox: builds are not confined then" >&2; exit 1; }
    bwrap --unshare-all --ro-bind / / true || {
        echo "bubblewrap may not make namespaces here: allow it, or run this with --no-sandbox" >&2
        exit 1
    }
fi
command -v cargo >/dev/null || { echo "missing: a Rust toolchain (https://rustup.rs)" >&2; exit 1; }

say "The programs are built"
# As the tests build it, so that neither waits for what the other has built.
cargo build --locked --workspace --bin policy --bin agent --bin load
bin=${CARGO_TARGET_DIR:-$PWD/target}/debug

# A short path: those of unix sockets are limited.
dir=$(mktemp -d /tmp/writ-demo-XXXXXX)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# Nobody's own git settings play a part.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
web_port=$(free_port) site_port=$(free_port)

say "Source repositories are made of sources/"
mkdir "$dir/sources"
for service in web worker site; do
    tar -C "$example/sources" --exclude target -c "$service" | tar -C "$dir/sources" -x
    cd "$dir/sources/$service"
    git init -q -b main .
    git config user.name developer
    git config user.email developer@example.org
    git add -A
    git commit -q -m "The first version of $service"
done

say "A state repository is made of repository/, with throw-away keys for root, author and policy"
cd "$dir"
show policy init --demo-keys --name demo --keys keys --from "$example/repository" state
cd state
# The example speaks of git.example.org and of fixed ports; on this machine they are others.
sed -i "s#https://git.example.org/\(.*\)\.git#file://$dir/sources/\1#" services/*/service.yaml
sed -i "s#127.0.0.1:8080#127.0.0.1:$web_port#; s#127.0.0.1:8081#127.0.0.1:$site_port#" environments/dev/*.yaml
git add -A
git commit -q -m "Point the fleet at this machine"
for overlay in environments/*/*.yaml; do
    service=$(basename "$overlay" .yaml)
    [ "$service" != environment ] || continue
    policy release "$service" --environment "$(basename "$(dirname "$overlay")")" \
        --commit "$(git -C "$dir/sources/$service" rev-parse HEAD)" >/dev/null
done
show policy check

say "A bare repository serves it; its hooks are policy"
git init -q --bare -b main "$dir/state.git"
show policy hook install "$dir/state.git" --key "$dir/keys/policy"
git remote add origin "$dir/state.git"
show git push -q origin trust
show git push -q -u origin main

say "Root lists a second author: a CI job that may move the pin of web in dev, and nothing else"
cd "$dir"
ssh-keygen -q -t ed25519 -N '' -C web-ci -f keys/web-ci
git -C state worktree add -q ../trust trust
cd trust
{
    sed -e 's/^version: 1$/version: 2/' -e "/^version:/a prev: sha256:$(sha256sum <1.yaml | cut -c1-64)" 1.yaml
    echo "  - { name: web-ci, key: \"$(cut -d' ' -f1,2 ../keys/web-ci.pub)\", environments: [ dev ]," \
        "paths: [ environments/dev/web.yaml ], fields: [ source.commit ], may: [ author ] }"
} >2.yaml
ssh-keygen -q -Y sign -n trust@writ -f ../keys/root <2.yaml >2.sig
git add 2.yaml 2.sig
git commit -q -m "Trust version 2: web-ci"
show git push -q origin trust
domain=sha256:$(sha256sum <1.yaml | cut -c1-64)

cd "$dir"
git clone -q state.git ci
cd ci
git config user.name web-ci
git config user.email web-ci@example.org
git config gpg.format ssh
git config user.signingkey "$dir/keys/web-ci"
git config commit.gpgsign true

# --- the main job ------------------------------------------------------------------------------------------------------

say "A host is enrolled, and its agent brings the three services live"
# Builds see /usr, and the Rust toolchain that is in use here.
show agent enroll --repository "file://$dir/state.git" --domain "$domain" --environment dev --host demo \
    --poll 2s --sandbox $sandbox --tools "$(rustc --print sysroot)"
"$bin/agent" --root "$dir/host" run >"$dir/agent.log" 2>&1 &
within 300 "the first deployments" all_live
deployments=3 version=1
show agent status
answers "web 1" || die "web 1 does not answer"

say "CI releases a second version, which is swapped in under load"
load_begin
echo 2 >"$dir/sources/web/version.txt"
git -C "$dir/sources/web" commit -q -a -m "The second version"
show policy release web --environment dev --commit "$(git -C "$dir/sources/web" rev-parse HEAD)" --push
within 300 "the swap" answers "web 2"
within 60 "the bake" all_live
load_end
deployments=$((deployments + 1)) version=2
[ "$answered" = 2 ] || die "the load did not see both releases"
show agent status

say "Bad pushes are refused"
echo "# A comment is a change too." >>services/web/service.yaml
git commit -q -a -m "CI changes a base"
refused PATH_NOT_ALLOWED "a commit outside its signer's scope"
cd "$dir/state"
git pull -q --ff-only
git commit -q --allow-empty --no-gpg-sign -m "Nobody signs this"
refused AUTHOR_UNSIGNED "an unsigned commit"
echo "colour: red" >>services/web/service.yaml
git commit -q -a -m "A field that does not exist"
refused CONFIG_INVALID "an unknown field"
sed -i 's/commit: "\(.*\)"/commit: main/' environments/dev/web.yaml
git commit -q -a -m "A pin that floats"
refused PIN_INVALID "a floating pin"

for fault in never-ready unwell-under-load; do
    say "A bad release is rolled back, under load: $fault"
    load_begin
    echo "run: { environment: { FAULT: $fault } }" >>environments/dev/web.yaml
    push "A release that is $fault"
    within 300 "the roll-back" held
    load_end
    deployments=$((deployments + 1)) rollbacks=$((rollbacks + 1))
    answers "web 2" || die "web 2 does not answer after the roll-back"
    show agent status || true
    show agent why web | tee "$dir/why"
    grep -q "rolled back" "$dir/why" || die "web was not rolled back"
    git revert --no-edit HEAD >/dev/null
    show git push -q origin main
    within 60 "the hold ends with the revert" all_live
done

say "What was allowed to run, and what happened"
show policy log "$dir/state.git"
show agent history

if ! $check; then
    say "The service is yours to look at until Ctrl-C"
    echo "  web     http://127.0.0.1:$web_port/"
    echo "  site    http://127.0.0.1:$site_port/"
    echo "  agent   $bin/agent --root $dir/host status"
    echo "  author  cd $dir/state, edit, commit, git push"
    trap 'exit 0' INT
    wait
fi
echo "$deployments deployments, $sent requests sent, $failed failed, $refused refused pushes, $rollbacks rollbacks"
