#!/bin/bash
# Runs tests that take too long for every change: the race detector, all fuzzers,
# the recipes for image builders, and repetitions of the lab's tests. Needs root.
#
#   FUZZTIME=1m   duration of each fuzzer
#   ROUNDS=3      number of repetitions of the lab's tests
set -eu -o pipefail
cd "$(dirname "$0")/.."
FUZZTIME=${FUZZTIME:-1m}
ROUNDS=${ROUNDS:-3}

# The packages for the tests, and the image builders of the recipes.
test/lab/install-packages.sh mkosi libguestfs-tools

printf '\n== race detector\n'
go test -race ./...

printf '\n== fuzzers, %s each\n' "$FUZZTIME"
git grep --untracked -oE '^func Fuzz[A-Za-z0-9_]*' -- '*_test.go' | while IFS=: read -r file match; do
	printf '%s %s\n' "$(dirname "$file")" "${match#func }"
done | sort -u | while read -r package fuzzer; do
	printf -- '-- %s in %s\n' "$fuzzer" "$package"
	go test -run '^$' -fuzz "^$fuzzer\$" -fuzztime "$FUZZTIME" "./$package" </dev/null
done

printf '\n== recipes for image builders\n'
go test -count=1 -tags soak,integration -v -timeout 60m -run 'Recipe|FromNothing' ./images ./images/golden

for round in $(seq "$ROUNDS"); do
	printf '\n== lab, round %d of %d\n' "$round" "$ROUNDS"
	test/all.sh lab
done
