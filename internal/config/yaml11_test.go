package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChangesInYAML11(t *testing.T) {
	for _, plain := range []string{"0644", "12:30", "12:30:00", "off", "on", "yes", "No", "True", "FALSE", "0x1F", "0b11", "1_000", "+5", "1.50", "1_0.5", "12:30.5", ".5", "2024-01-01 12:30:00", "2024-01-01T12:30:00Z", "-0", "+0", "0.00001", "-0.000000123", "12345678901234567890.0", "1.20e-07"} {
		if !changesInYAML11(plain) {
			t.Errorf("%s is said to stay the same", plain)
		}
	}
	for _, plain := range []string{"true", "false", "0", "1", "-1", "1500000", "1.5", "3.0", "text", "0x", "2024-01-01", "10.0.0.1", "v3.23.0", "0o17", "1e6", "08a", "", "0.0001", "-0.0", "1.0e-07", "1.5e+20", "1234567890123456.0"} {
		if changesInYAML11(plain) {
			t.Errorf("%s is said to change", plain)
		}
	}
}

func TestInvalidTimesOfYAML11(t *testing.T) {
	for _, plain := range []string{"2024-02-30", "2023-02-29", "2024-13-01", "0000-01-01", "2024-01-01 24:00:00", "2024-1-1t10:60:00Z", "2024-04-31 10:00:00.5 +01:30"} {
		if !isInvalidTime(plain) {
			t.Errorf("%s is accepted", plain)
		}
	}
	for _, plain := range []string{"2024-02-29", "2024-01-01 23:59:59", "2024-2-30", "2024-02-30x", "v2024-02-30", "20240230", "2024-02-30-1", "10.0.0.1", ""} {
		if isInvalidTime(plain) {
			t.Errorf("%s is refused", plain)
		}
	}
}

// TestUserDataIsCheckedAsCloudInitReadsIt: a file that begins like user-data is
// read as such, and values that YAML 1.1 changes cause warnings.
func TestUserDataIsCheckedAsCloudInitReadsIt(t *testing.T) {
	const values = "  sysctl:\n    vm.a: 0644\n    vm.b: \"0644\"\n  node:\n    environment:\n      A: off\n      B: 'off'\n      C: 12:30\n      D: |\n        0644\n      E: text\n      F: 2024-02-30\n      G: -0\n"
	inner := strings.ReplaceAll("  "+strings.ReplaceAll(strings.TrimSuffix(minimal, "\n"), "\n", "\n  ")+"\n"+values, "      D: |\n        0644\n", "")
	for _, header := range []string{"#cloud-config\n", "## template: jinja\n#cloud-config\n", "#cloud-config\r\n"} {
		file := filepath.Join(t.TempDir(), "user-data")
		if err := os.WriteFile(file, []byte(header+"hostname: 0644\nfirstboot:\n"+inner), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Load(t.Context(), Options{Files: []string{file}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range l.Warnings {
			if strings.Contains(w.Message, "YAML 1.1") || strings.Contains(w.Message, "is not a valid date or time for cloud-init") {
				got = append(got, w.Path)
			}
			if strings.Contains(w.Error(), "2024") || strings.Contains(w.Error(), "0644") || strings.Contains(w.Error(), "12:30") {
				t.Errorf("the warning quotes a value: %v", w)
			}
		}
		if want := "sysctl.vm.a node.environment.A node.environment.C node.environment.F node.environment.G"; strings.Join(got, " ") != want {
			t.Errorf("warnings for %v, want %s", got, want)
		}
	}
}

// TestOtherSourcesAreNotYAML11: firstboot reads its own files itself, and
// cloud-init has already written the user-data that it keeps.
func TestOtherSourcesAreNotYAML11(t *testing.T) {
	l := mustLoad(t, Options{Root: rootWith(t, map[string]string{
		MainFile: minimal + "node: {environment: {A: off}}\n", CloudConfigFile: "#cloud-config\nfirstboot:\n  node: {environment: {B: 0644}}\n",
	})})
	if text := Problems(l.Warnings).Error(); strings.Contains(text, "YAML 1.1") {
		t.Error(text)
	}
}
