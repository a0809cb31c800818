package artifact

import "context"

// Digest returns the sha256 of a file, in lower-case hexadecimal digits. It does
// not read a file again that is unchanged since its last digest.
func (s *Store) Digest(ctx context.Context, path string) (string, error) {
	f, err := openRegular(path)
	if err != nil {
		return "", withoutPath(err)
	}
	defer f.Close()
	return s.digests.of(ctx, f)
}

// Verified reports whether this Store has computed the file's digest, it is the
// wanted one, and the file is unchanged since. The wanted digest is "" if only a
// signature pins the file, which was then verified with the digest.
func (s *Store) Verified(path, wanted string) bool {
	f, err := openRegular(path)
	if err != nil {
		return false
	}
	defer f.Close()
	have, known := s.digests.known(f)
	return known && (wanted == "" || have == wanted)
}

// Identity identifies the file that a Ref pins: its sha256 or, if only a
// signature pins it, "url-" and the sha256 of its URL without credentials.
func (r Ref) Identity() string { return r.key() }

// BundledDigest returns the sha256 that the manifest of the first bundle with the
// artifact states. It is "" if no bundle has the artifact, or if the bundle has
// several versions. It does not read the file.
func (s *Store) BundledDigest(name string) string {
	for _, b := range s.openBundles() {
		digest := ""
		for _, e := range b.Entries {
			if e.Name == name && digest != "" {
				return ""
			}
			if e.Name == name {
				digest = e.SHA256
			}
		}
		if digest != "" {
			return digest
		}
	}
	return ""
}
