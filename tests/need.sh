# shellcheck shell=bash
# Sourced by scripts: sees to it that the programs they need are there.

# The programs that Debian puts where only root looks for them.
PATH=$PATH:/usr/sbin:/sbin

# need PROGRAM PACKAGE [PROGRAM PACKAGE]... installs the Debian packages of the programs that are missing, if it may
# (as root, or by sudo without a password); else it says what to install and fails.
need() {
    local packages=() sudo=()
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || packages+=("$2")
        shift 2
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        sudo=(sudo -n)
    fi
    if ! command -v apt-get >/dev/null || ! "${sudo[@]}" true 2>/dev/null; then
        echo "missing: apt-get install ${packages[*]}" >&2
        return 1
    fi
    echo "installing: ${packages[*]}" >&2
    # RUNLEVEL=1: what is installed here is started by nobody but the tests.
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 sh -c \
        'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"' sh "${packages[@]}" >&2 </dev/null
}
