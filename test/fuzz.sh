#!/bin/bash
# Runs each fuzz target for FUZZTIME and prints how many inputs it executed. A
# target that executes fewer than 10,000 inputs in 30 s is too slow to find
# anything and is reported. Exits with 1 if a target failed or was too slow.
#
#   test/fuzz.sh             every target
#   test/fuzz.sh NAME...     only these targets, such as FuzzDecode
#
#   FUZZTIME=30              seconds for each target
#   FUZZPARALLEL=            number of workers; default: one per CPU
set -eu -o pipefail
cd "$(dirname "$0")/.."
FUZZTIME=${FUZZTIME:-30}
wanted=" $* "
failed=()
total=0

# Each line: PACKAGE TARGET.
targets() {
	git grep --untracked -oE '^func Fuzz[A-Za-z0-9_]*' -- '*_test.go' | while IFS=: read -r file match; do
		printf '%s %s\n' "$(dirname "$file")" "${match#func }"
	done | sort -u
}

# Reports whether the target only ended late: on a busy machine Go's fuzzer reports
# its own deadline as a failure, without an input (golang.org/issue/48591).
ended_late() { grep -qx '    context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log"; }

log=$(mktemp) && trap 'rm -f "$log"' EXIT
while read -r package target; do
	case "$wanted" in '  ' | *" $target "*) ;; *) continue ;; esac
	# Minimizing an interesting input may take up all the time, so it gets 1 s.
	if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME}s" -fuzzminimizetime 1s \
		${FUZZPARALLEL:+-parallel "$FUZZPARALLEL"} "./$package" </dev/null >"$log" 2>&1 && ! ended_late; then
		cat "$log"
		printf 'FAIL  %-32s %s\n' "$target" "$package"
		failed+=("$target")
		continue
	fi
	count=$(sed -nE 's/.*execs: ([0-9]+).*/\1/p' "$log" | tail -1)
	total=$((total + FUZZTIME))
	least=$((10000 * FUZZTIME / 30))
	if [ "${count:-0}" -lt "$least" ]; then
		printf 'SLOW  %-32s %s: %d inputs in %d s, want %d\n' "$target" "$package" "${count:-0}" "$FUZZTIME" "$least"
		failed+=("$target")
	else
		printf 'ok    %-32s %s: %d inputs in %d s\n' "$target" "$package" "$count" "$FUZZTIME"
	fi
done < <(targets)
printf 'fuzzed for %d s in all\n' "$total"
[ ${#failed[@]} -eq 0 ] || {
	printf 'failed or too slow: %s\n' "${failed[*]}"
	exit 1
}
