#!/bin/sh
# One machine for each line of the file kernels, which has options of chrootvm, and each line of the
# file commands, two at a time. results/joblog has the statuses.
set -eu
exec parallel --jobs 2 --joblog results/joblog \
	chrootvm -q -n --report 'results/{#}.xml' --cpus 1 --memory 256M --timeout 10m \
	'{=1 uq() =}' ./root -- sh -c '{2}' '>' 'results/{#}.out' '2>&1' :::: kernels commands
