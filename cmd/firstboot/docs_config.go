//go:build docs

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"

	"github.com/projecteru2/firstboot/internal/config"
)

// property is a section or a key of the configuration's JSON Schema.
type property struct {
	Description string
	Default     any
	Properties  map[string]property
	Enum        []string
	Required    []string
}

// writeConfigPage writes firstboot.yaml(5), generated from the JSON Schema.
func writeConfigPage(dir string) error {
	data, err := config.Schema()
	if err != nil {
		return fmt.Errorf("cannot write firstboot.yaml(5): %w", err)
	}
	var root property
	if err := json.Unmarshal(data, &root); err != nil {
		return fmt.Errorf("cannot write firstboot.yaml(5): %w", err)
	}
	return writePage(filepath.Join(dir, "firstboot.yaml.5"), md2man.Render([]byte(configPage(root))))
}

func configPage(root property) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%% \"FIRSTBOOT.YAML\" \"5\" \"%s\" \"firstboot %s\" \"\"\n", pageDate(), version())
	b.WriteString(`# NAME

firstboot.yaml - configuration of firstboot

# SYNOPSIS

` + config.MainFile + "  \n" + config.DropInDir + "/\\*.yaml  \n" + config.VendorDir + `/\*.yaml

# DESCRIPTION

The configuration is YAML: sections with keys. Unknown keys are errors. The sources, each overriding the one before, are:
the defaults, ` + config.VendorDir + `/\*.yaml, ` + config.MainFile + `, ` + config.DropInDir + `/\*.yaml, the key firstboot: of cloud-init's
user-data, the systemd credential firstboot.config, and the arguments firstboot.KEY=VALUE on the kernel command line.

**firstboot validate** FILE reports every error with its position. **firstboot config** shows where each value comes from.

`)
	for _, section := range slices.Sorted(maps.Keys(root.Properties)) {
		p := root.Properties[section]
		fmt.Fprintf(&b, "# %s\n\n", strings.ToUpper(section))
		if len(p.Properties) == 0 {
			writeKey(&b, section, p, false)
		}
		for _, name := range slices.Sorted(maps.Keys(p.Properties)) {
			writeKey(&b, section+"."+name, p.Properties[name], slices.Contains(p.Required, name))
		}
	}
	b.WriteString("# SEE ALSO\n\n**firstboot(1)**, **firstboot-validate(1)**, **firstboot-config(1)**\n")
	return b.String()
}

// writeKey writes one key. A definition list would need its own syntax.
func writeKey(b *strings.Builder, path string, p property, required bool) {
	fmt.Fprintf(b, "**%s**", path)
	if required {
		b.WriteString(" (required)")
	}
	fmt.Fprintf(b, "  \n%s.", strings.TrimSuffix(p.Description, "."))
	if len(p.Enum) > 0 {
		fmt.Fprintf(b, " Values: %s.", strings.Join(p.Enum, ", "))
	}
	if p.Default != nil {
		if text, err := json.Marshal(p.Default); err == nil {
			fmt.Fprintf(b, " Default: `%s`.", text)
		}
	}
	b.WriteString("\n\n")
}

// pageDate returns the time of the sources, so that builds are reproducible.
func pageDate() string {
	t := buildTime()
	if seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		t = time.Unix(seconds, 0).UTC()
	}
	return t.Format("Jan 2006")
}
