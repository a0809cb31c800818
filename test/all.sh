#!/bin/bash
# Runs every test, the quick ones first, and ends with 1 if any step failed.
# Each step says what it is and how long it took. Needs root.
#
#   test/all.sh            everything
#   test/all.sh STEP...    only these: format vet unit integration nspawn lab build
set -u -o pipefail
cd "$(dirname "$0")/.." || exit

# The nested modules are compiled by the lab; their own tests run here.
calico=test/lab/parts/calico

step_format() {
	local wrong
	wrong=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l)
	[ -z "$wrong" ] || { printf 'not formatted (gofmt -w FILE):\n%s\n' "$wrong"; return 1; }
}

step_vet() {
	go vet ./... && go vet -tags integration,lab,soak ./...
}

step_unit() { go test ./...; }

# Packages that have tests with the build tag $1, as arguments for go test.
tagged() {
	git grep --untracked -lE "^//go:build .*\\b$1\\b" -- '*_test.go' ':!test/lab/parts/calico' | xargs -r -n1 dirname | sort -u | sed 's,^,./,'
}

step_integration() {
	# shellcheck disable=SC2046 # package names are words
	go test -count=1 -tags integration -timeout 15m $(tagged integration)
}

step_nspawn() {
	# -p 1 and -v: what goes on is seen as it goes.
	go test -count=1 -tags lab -p 1 -v -timeout 20m ./test/nspawn/...
}

step_lab() {
	local packages
	packages=$(tagged lab | grep -vE '^./(test/nspawn|stages)')
	(cd "$calico" && go test -count=1 ./minions/...) || return 1
	# Only what needs the lab's parts: the rest ran in the steps before.
	go test -count=1 -tags lab -timeout 20m -run '^TestReal' ./stages || return 1
	# shellcheck disable=SC2086 # package names are words
	go test -count=1 -tags lab -p 1 -v -timeout 60m $packages | tee "$told"
}

# The stories' names and times, as they told them themselves.
stories() {
	sed -nE 's/^ +[a-z_]+_test\.go:[0-9]+: +([0-9hms.]+)  ([a-zA-Z].*)/\1\t\2/p' "$told" |
		while IFS=$'\t' read -r time story; do printf '  %10s  %s\n' "$time" "$story"; done
}

step_build() { make --no-print-directory build; }

# Installed before the first step: nearly all of them need something of it.
test/lab/install-packages.sh || exit 1

steps=(format vet unit build integration)
# Not listed where it is not there, rather than called ok.
[ ! -d test/nspawn ] || steps+=(nspawn)
steps+=(lab)
[ $# -eq 0 ] || steps=("$@")
failed=()
told=$(mktemp) && trap 'rm -f "$told"' EXIT
summary=
for step in "${steps[@]}"; do
	if ! declare -F "step_$step" >/dev/null; then
		printf 'cannot run %s: want one of format vet unit build integration nspawn lab\n' "$step" >&2
		exit 2
	fi
	printf '\n== %s\n' "$step"
	start=$SECONDS
	if "step_$step"; then word=ok; else word=FAILED && failed+=("$step"); fi
	summary+=$(printf '\n  %-12s %-7s %4d s' "$step" "$word" $((SECONDS - start)))
done
[ ! -s "$told" ] || printf '\n== stories of the lab\n%s\n' "$(stories)"
printf '\n== summary%s\n  %-12s %12d s\n' "$summary" all "$SECONDS"
if [ ${#failed[@]} -gt 0 ]; then
	printf 'failed: %s\n' "${failed[*]}"
	exit 1
fi
