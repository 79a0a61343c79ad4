#!/bin/sh
# The example worker: nobody connects to it; its heartbeat says that it is at work, and for which release.
set -eu

trap 'echo "worker stops"; exit 0' TERM
echo "worker starts, release $RELEASE_ID"
while :; do
    # Replaced by rename, so that a probe never reads half a heartbeat.
    echo "$(date +%s) $RELEASE_ID" >"$STATE_DIRECTORY/heartbeat.new"
    mv "$STATE_DIRECTORY/heartbeat.new" "$STATE_DIRECTORY/heartbeat"
    # In the background, so that TERM ends the wait at once.
    sleep 1 &
    wait $!
done
