#!/bin/bash
# Runs the tests, the quick ones first, and exits with 1 if a step failed. Each
# step prints its name and how long it took.
#
#   test/all.sh            every step; needs root
#   test/all.sh check      what every change runs; needs no root and installs nothing
#   test/all.sh STEP...    only these steps: format vet lint shell unit build integration nspawn nslab lab
set -u -o pipefail
cd "$(dirname "$0")/.." || exit

# A nested module. The lab compiles it; its own tests run in step_lab.
calico=test/lab/parts/calico

step_format() {
	local files
	files=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l)
	[ -z "$files" ] || { printf 'not formatted (run gofmt -w FILE):\n%s\n' "$files"; return 1; }
}

step_vet() {
	go vet ./... && go vet -tags integration,lab,soak ./...
}

# golangci-lint, with every build tag, at the version that the Makefile pins.
step_lint() { make --no-print-directory lint; }

step_shell() {
	if ! command -v shellcheck >/dev/null; then
		echo 'skipped: shellcheck is not installed'
		return
	fi
	# Templates are checked in a test, after they are filled in.
	git ls-files -z --cached --others --exclude-standard ':!*.tmpl' | xargs -0 grep -lE '^#!/bin/(ba)?sh' | xargs shellcheck
}

# Unit tests with the race detector, which needs a C compiler; the seeds of the
# fuzz targets are among them. Skipped tests are named.
step_unit() {
	local race=-race log status
	if [ "$(go env CGO_ENABLED)" != 1 ] || ! command -v "$(go env CC)" >/dev/null; then
		echo 'skipped: the race detector, because there is no C compiler'
		race=
	fi
	log=$(mktemp)
	# shellcheck disable=SC2086 # empty, or one flag
	go test $race -json ./... >"$log"
	status=$?
	go run ./test/summary <"$log" || status=1
	rm -f "$log"
	return "$status"
}

# Prints the packages that have tests with the build tag $1.
tagged() {
	git grep --untracked -lE "^//go:build .*\\b$1\\b" -- '*_test.go' ':!test/lab/parts/calico' | xargs -r -n1 dirname | sort -u | sed 's,^,./,'
}

step_integration() {
	# shellcheck disable=SC2046 # split into words: package names
	go test -count=1 -tags integration -timeout 15m $(tagged integration)
}

step_nspawn() {
	# -p 1 and -v print the output of each test while it runs.
	go test -count=1 -tags lab -p 1 -v -timeout 20m ./test/nspawn/...
}

# Hosts in namespaces of their own, with many versions of Docker and etcd.
step_nslab() {
	go test -count=1 -tags lab -v -parallel 3 -timeout 20m ./test/nslab
}

step_lab() {
	local packages names
	packages=$(tagged lab | grep -vE '^./(test/nspawn|test/nslab|stages)')
	(cd "$calico" && go test -count=1 ./minions/...) || return 1
	# Only the tests that need the lab's parts. The others ran in earlier steps.
	names=$(sed -nE 's/^func (Test[A-Za-z0-9]+)\(.*/\1/p' stages/*_lab_test.go | paste -sd '|')
	go test -count=1 -tags lab -timeout 20m -run "^($names)\$" ./stages || return 1
	# shellcheck disable=SC2086 # split into words: package names
	go test -count=1 -tags lab -p 1 -v -timeout 60m $packages | tee "$lab_output"
}

# Prints the durations and names that labtest.Step logged in the lab's tests.
scenarios() {
	sed -nE 's/^ +[a-z_]+_test\.go:[0-9]+: +([0-9hms.]+)  ([a-zA-Z].*)/\1\t\2/p' "$lab_output" |
		while IFS=$'\t' read -r duration name; do printf '  %10s  %s\n' "$duration" "$name"; done
}

step_build() { make --no-print-directory build; }

quick=(format vet lint shell unit)
steps=("${quick[@]}" build integration nspawn nslab lab)
case "$*" in
'') ;;
check) steps=("${quick[@]}") ;;
*) steps=("$@") ;;
esac

# Beyond the quick steps nearly every step needs some of these packages.
for step in "${steps[@]}"; do
	case " ${quick[*]} build " in *" $step "*) continue ;; esac
	test/lab/install-packages.sh || exit 1
	# From here on a missing program fails a test instead of skipping it.
	export FIRSTBOOT_TEST_ALL=1
	break
done
failed=()
lab_output=$(mktemp) && trap 'rm -f "$lab_output"' EXIT
summary=
for step in "${steps[@]}"; do
	if ! declare -F "step_$step" >/dev/null; then
		printf 'unknown step %s: want check, or any of format vet lint shell unit build integration nspawn nslab lab\n' "$step" >&2
		exit 2
	fi
	printf '\n== %s\n' "$step"
	start=$SECONDS
	if "step_$step"; then result=ok; else result=FAILED && failed+=("$step"); fi
	summary+=$(printf '\n  %-12s %-7s %4d s' "$step" "$result" $((SECONDS - start)))
done
[ ! -s "$lab_output" ] || printf '\n== scenarios of the lab\n%s\n' "$(scenarios)"
printf '\n== summary%s\n  %-12s %12d s\n' "$summary" all "$SECONDS"
if [ ${#failed[@]} -gt 0 ]; then
	printf 'failed: %s\n' "${failed[*]}"
	exit 1
fi
