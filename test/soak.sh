#!/bin/bash
# Runs tests that take too long for every change: all fuzz targets, the recipes
# for image builders, a Debian 13 host with Ignition, and repetitions of the lab's
# tests. Needs root.
#
#   FUZZTIME=60   seconds for each fuzz target
#   ROUNDS=3      number of repetitions of the lab's tests
set -eu -o pipefail
cd "$(dirname "$0")/.."
FUZZTIME=${FUZZTIME:-60}
ROUNDS=${ROUNDS:-3}

# The packages for the tests, and the image builders of the recipes.
test/lab/install-packages.sh mkosi libguestfs-tools

printf '\n== fuzz targets, %s s each\n' "$FUZZTIME"
FUZZTIME=$FUZZTIME test/fuzz.sh

printf '\n== recipes for image builders\n'
go test -count=1 -tags soak,integration -v -timeout 60m -run 'Recipe|WithMmdebstrap' ./images ./images/golden

printf '\n== Ignition on Debian 13\n'
go test -count=1 -tags soak,lab -v -timeout 30m -run IgnitionOnDebian13 ./test/lab/provisioning

for round in $(seq "$ROUNDS"); do
	printf '\n== lab, round %d of %d\n' "$round" "$ROUNDS"
	test/all.sh lab
done
