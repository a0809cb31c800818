package host

import "path/filepath"

// maxLinks limits how many symbolic links Target follows, as the kernel does.
const maxLinks = 40

// Target returns the path of the file that path names after its symbolic links,
// which need not exist. Writing to it keeps the links.
func (h *Host) Target(path string) string {
	for range maxLinks {
		link := h.Readlink(path)
		if link == "" {
			return path
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(path), link)
		}
		path = filepath.Clean(link)
	}
	return path
}
