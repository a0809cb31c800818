// Package bench measures firstboot beside a careful script of the same runbook, in
// virtual machines of the lab, with the same image and artifacts (make bench).
package bench
