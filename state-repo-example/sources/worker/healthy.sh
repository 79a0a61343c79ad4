#!/bin/sh
# The worker's probe: succeeds while the last heartbeat is this release's and less than five seconds old.
set -eu

read -r beat release <"$STATE_DIRECTORY/heartbeat"
[ "$release" = "$RELEASE_ID" ]
[ $(($(date +%s) - beat)) -lt 5 ]
