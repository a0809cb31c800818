package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	const events = `{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"    one_test.go:7: wrong\n"}
{"Action":"output","Package":"a","Test":"TestTwo","Output":"    two_test.go:9: etcd is not installed\n"}
{"Action":"skip","Package":"a","Test":"TestTwo"}
{"Action":"fail","Package":"a","Test":"TestOne"}
{"Action":"fail","Package":"a"}
{"Action":"pass","Package":"b","Test":"TestThree"}
{"Action":"pass","Package":"b","Elapsed":1.25}
{"Action":"build-output","ImportPath":"c","Output":"undefined: x\n"}
{"Action":"build-fail","ImportPath":"c"}
`
	var out strings.Builder
	failed, err := summarise(strings.NewReader(events), &out)
	if err != nil || failed != 3 {
		t.Errorf("%d failed, %v", failed, err)
	}
	for _, want := range []string{
		"FAIL  a TestOne\n    one_test.go:7: wrong\n", "FAIL  a\n", "ok    b  1.2s\n", "FAIL  c\nundefined: x\n",
		"skipped: TestTwo: etcd is not installed\n", "1 passed, 3 failed, 1 skipped\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}
