#!/bin/bash
# What takes longer than a change should wait for: the race detector, every
# fuzzer for a while, the recipes for image builders, and the lab's tests again
# and again. Needs root.
#
#   FUZZTIME=1m   for each fuzzer
#   ROUNDS=3      of the lab's tests
set -eu -o pipefail
cd "$(dirname "$0")/.."
FUZZTIME=${FUZZTIME:-1m}
ROUNDS=${ROUNDS:-3}

# Beside what the tests need, the image builders that there are recipes for.
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
