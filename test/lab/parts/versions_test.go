package parts

import (
	"slices"
	"testing"
)

func TestNewerVersionsOfDocker(t *testing.T) {
	if got, want := Docker20.Newer(), []DockerVersion{Docker26, Docker29}; !slices.Equal(got, want) {
		t.Errorf("newer than 20.10: %v, want %v", got, want)
	}
	if got := Docker29.Newer(); len(got) != 0 {
		t.Errorf("newer than 29: %v, want none", got)
	}
}

func TestUnknownVersionsAreRefused(t *testing.T) {
	if _, err := Docker(t.Context(), "1.13", nil); err == nil {
		t.Error("Docker 1.13 was not refused")
	}
	if _, err := Etcd(t.Context(), "2.3", nil); err == nil {
		t.Error("etcd 2.3 was not refused")
	}
}
