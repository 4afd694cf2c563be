#!/bin/sh
# Works through a queue of three jobs, and ends.
set -eu
echo "worker: user $(id -un), queue $QUEUE"
for job in 1 2 3; do
  echo "$job" > last-job
  echo "worker: job $(cat last-job) of $QUEUE is done"
  sleep 1
done
