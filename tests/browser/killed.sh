# A run that was killed with two tasks under way: no journal tells their end. To
# be sourced.
#
#   killed_run PYTF DIR    leaves the workdir DIR/killed
killed_run() {
    local pytf=$1 work=$2 farmer tries=0
    printf 'sleep 1000\n%.0s' 1 2 3 4 >"$work/long.txt"
    "$pytf" "$work/long.txt" --proc 2 --workdir "$work/killed" --quiet &
    farmer=$!
    # The journal tells of a start when it is next written.
    until "$pytf" status "$work/killed" --json 2>/dev/null | grep -q '"running": 2'; do
        sleep 0.2
        [ $((tries += 1)) -lt 300 ] || { echo "no task has started"; return 1; }
    done
    kill -KILL $farmer
    wait $farmer 2>/dev/null || true
}
