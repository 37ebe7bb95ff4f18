#!/bin/sh
# Run the process every ten minutes, as cron would; a run that fails does not end the loop.
# On SIGTERM, the run at work is ended, and the next one finishes its work.
trap 'kill -TERM "$child" 2>/dev/null; wait "$child"; exit 0' TERM INT
while :; do
    python -E -s -B /opt/attrition/fullprocess.py --config /data/config.json --quiet &
    child=$!
    wait "$child"
    sleep "${1:-600}" &
    child=$!
    wait "$child"
done
