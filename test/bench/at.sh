#!/bin/bash
# Runs a command. Before each line of its output it prints what was used since the
# start: seconds, the machine's CPU seconds, MB read and MB written. It starts no
# program for that.
set -u -o pipefail
counters() {
	local used disk
	read -r -a used </proc/stat # in ticks of 10 ms: cpu user nice system idle iowait irq softirq
	read -r -a disk </sys/block/vda/stat
	now=${EPOCHREALTIME/./} cpu=$((used[1] + used[2] + used[3] + used[6] + used[7]))
	read=$((disk[2] / 1953)) written=$((disk[6] / 1953)) # sectors of 512 bytes
}
counters
start=$now first_cpu=$cpu first_read=$read first_written=$written
"$@" 2>&1 | while IFS= read -r line; do
	counters
	printf '%3d.%d s %3d.%d s of CPU %4d MB read %4d MB written  %s\n' \
		$(((now - start) / 1000000)) $(((now - start) / 100000 % 10)) \
		$(((cpu - first_cpu) / 100)) $(((cpu - first_cpu) / 10 % 10)) \
		$((read - first_read)) $((written - first_written)) "$line"
done
