#!/bin/bash
# A farm on machines without a scheduler that share a file system: one pytf on
# each, started by ssh. Needs ssh without a password, and this folder under the
# same path everywhere.
#
#     ./ssh-loop.sh node1 node2 node3
#
# Ctrl-C, or SIGTERM to this script, stops all of them in good order. The same
# command again goes on where they ended; further machines may join meanwhile.
[ $# -gt 0 ] || { echo "usage: $0 HOST..." >&2; exit 2; }
pytf=$(command -v pytf) || { echo "pytf is not in PATH" >&2; exit 127; }
folder=$PWD

stop() {
    stopped=1
    for host in "${hosts[@]}"; do
        ssh -n -o BatchMode=yes "$host" "kill -TERM \$(cat $(printf %q "$folder/.pytf.$host.pid"))" &
    done
}
hosts=("$@")
trap stop INT TERM HUP

farmers=()
for host in "${hosts[@]}"; do
    # Of a session of its own, so that Ctrl-C here reaches only this script.
    setsid ssh -n -o BatchMode=yes -o ServerAliveInterval=30 "$host" \
        "cd $(printf %q "$folder") && echo \$\$ >.pytf.$host.pid && exec $(printf %q "$pytf") tasks.txt" \
        >>"farm.$host.out" 2>&1 &
    farmers+=($!)
done

# The last to leave tells how the run stands: the largest status is its.
status=0
for farmer in "${farmers[@]}"; do
    while :; do
        stopped=
        wait "$farmer"
        said=$?
        [ "$said" -eq 127 ] || code=$said
        # A signal to us ends `wait`, not the farmer.
        [ -n "$stopped" ] || break
    done
    [ "$code" -gt "$status" ] && status=$code
done
rm -f $(printf '.pytf.%s.pid ' "${hosts[@]}")
exit "$status"
