package app

import (
	"fmt"
	"strings"

	"github.com/projecteru2/firstboot/internal/config"
)

// upgradeNotes describes what this firstboot would change on a host whose
// configuration another version saved: the defaults that differ. They are not
// drift, and a run does not apply them without --force.
func upgradeNotes(saved *config.Loaded) []string {
	keys := saved.ChangedDefaults()
	if len(keys) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("upgrade: this version of firstboot has other defaults for %s; firstboot run --force applies them",
		strings.Join(firstKeys(keys), ", "))}
}

// maxKeys limits the keys that a message names.
const maxKeys = 5

// firstKeys returns the first keys and the number of the others.
func firstKeys(keys []string) []string {
	if len(keys) <= maxKeys {
		return keys
	}
	return append(keys[:maxKeys:maxKeys], fmt.Sprintf("and %d more", len(keys)-maxKeys))
}
