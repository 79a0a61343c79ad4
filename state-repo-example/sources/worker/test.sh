#!/bin/sh
# The worker's test: it becomes healthy, its heartbeat counts for no other release, and TERM ends it well.
set -eu

STATE_DIRECTORY=$(mktemp -d)
RELEASE_ID=of-the-test
export STATE_DIRECTORY RELEASE_ID
trap 'rm -rf "$STATE_DIRECTORY"' EXIT

./worker.sh &
worker=$!
deadline=$(($(date +%s) + 10))
until ./healthy.sh 2>/dev/null; do
    [ "$(date +%s)" -lt "$deadline" ] || { echo "not healthy within 10 s" >&2; exit 1; }
done
if RELEASE_ID=another ./healthy.sh; then
    echo "the heartbeat counts for another release" >&2
    exit 1
fi
kill -TERM "$worker"
wait "$worker"
echo "worker: all tests passed"
