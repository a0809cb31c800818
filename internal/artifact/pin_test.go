package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVerifiedMeansTheWantedDigest: a damaged copy has a digest, too.
func TestVerifiedMeansTheWantedDigest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calicoctl")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("content"))
	digest := hex.EncodeToString(sum[:])
	s := NewStore(Options{})
	if s.Verified(path, digest) {
		t.Error("a file that was not read is verified")
	}
	if got, err := s.Digest(t.Context(), path); err != nil || got != digest {
		t.Fatal(got, err)
	}
	if !s.Verified(path, digest) || !s.Verified(path, "") {
		t.Error("the file is not verified")
	}
	if s.Verified(path, strings.Repeat("0", 64)) {
		t.Error("a file with another digest is verified")
	}
	if err := os.WriteFile(path, []byte("changed content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.Verified(path, "") {
		t.Error("a changed file is verified")
	}
}
