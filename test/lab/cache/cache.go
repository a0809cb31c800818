// Package cache stores the results of slow builds (downloads, binaries, images)
// in a directory outside the checkout. The key of an entry is made from all
// inputs of the build. The package knows nothing about the contents of entries.
//
// An entry is a directory. It is built under a temporary name, synced, and
// renamed, so an entry is always complete, also after a power cut. A lock for
// each entry prevents two runs from building it at the same time.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Variable is the environment variable that sets the directory.
	Variable = "FIRSTBOOT_CACHE"
	// DefaultDir is the directory if the variable is not set.
	DefaultDir = "/var/cache/firstboot-lab"
	// progressInterval is the time between two progress messages of a build.
	progressInterval = 10 * time.Second
	// maxUnused is the time after which an older entry with the same name is
	// removed if nobody used it. A run takes at most an hour.
	maxUnused = 24 * time.Hour
	// partSuffix is the suffix of an unfinished entry.
	partSuffix = ".part"
)

// Logf receives one line of progress, without a newline.
type Logf func(format string, args ...any)

// Store is a directory of entries.
type Store struct {
	Dir string
	Log Logf // may be nil
}

// Open returns the store in the directory that Variable sets, or in DefaultDir.
// It does not create the directory.
func Open(log Logf) Store {
	dir := os.Getenv(Variable)
	if dir == "" {
		dir = DefaultDir
	}
	return Store{Dir: dir, Log: log}
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// Get returns the directory of the entry with this name (lower case letters,
// digits and dashes) and key (see Key). If the entry does not exist, Get calls
// build with an empty directory, which becomes the entry unless build fails. If
// another process is building the same entry, Get waits for it.
func (s Store) Get(ctx context.Context, name, key string, build func(ctx context.Context, dir string) error) (string, error) {
	if !validName.MatchString(name) || !validName.MatchString(key) {
		return "", fmt.Errorf("cannot use the entry %q with the key %q: want lower case letters, digits and dashes", name, key)
	}
	entry := filepath.Join(s.Dir, name+"-"+key)
	if touch(entry) {
		return entry, nil
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot create the cache: %w (set %s to a writable directory)", err, Variable)
	}
	lock, err := s.lock(ctx, name, key)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if touch(entry) { // another process built it in the meantime
		return entry, nil
	}
	start := time.Now()
	s.logf("%s: building", name)
	if err := s.publish(ctx, name, entry, build); err != nil {
		return "", err
	}
	s.logf("%s: built in %s", name, time.Since(start).Round(100*time.Millisecond))
	s.prune(name, key)
	return entry, nil
}

// touch reports whether the entry exists, and records that it was used now.
func touch(entry string) bool {
	now := time.Now()
	return os.Chtimes(entry, now, now) == nil
}

// publish builds the entry under a temporary name, and renames it when all data
// is on disk. The caller holds the lock, so an existing directory with the
// temporary name was left by a process that was killed.
func (s Store) publish(ctx context.Context, name, entry string, build func(context.Context, string) error) error {
	dir := entry + partSuffix
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot remove an unfinished build: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("cannot build %s: %w", name, err)
	}
	stop := s.reportProgress(name)
	err := build(ctx, dir)
	stop()
	if err == nil {
		err = syncAll(dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot build %s: %w", name, err), os.RemoveAll(dir))
	}
	if err := os.Rename(dir, entry); err != nil {
		return fmt.Errorf("cannot publish %s: %w", name, err)
	}
	return syncDir(s.Dir)
}

// reportProgress logs at intervals that a build is still running.
func (s Store) reportProgress(name string) (stop func()) {
	done := make(chan struct{})
	start := time.Now()
	go func() {
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				s.logf("%s: still building, %s so far", name, time.Since(start).Round(time.Second))
			}
		}
	}()
	return func() { close(done) }
}

// prune removes other entries with the same name that were not used for a long
// time. It ignores errors: the next prune tries again.
func (s Store) prune(name, key string) {
	all, _ := filepath.Glob(filepath.Join(s.Dir, name+"-*"))
	for _, path := range all {
		other := strings.TrimSuffix(filepath.Base(path)[len(name)+1:], partSuffix)
		info, err := os.Stat(path)
		if err != nil || !isKey(other) || other == key || time.Since(info.ModTime()) < maxUnused {
			continue
		}
		os.RemoveAll(path)
	}
}

func (s Store) logf(format string, args ...any) {
	if s.Log != nil {
		s.Log(format, args...)
	}
}

// syncAll syncs the file system of the directory. A single call is faster than
// syncing thousands of files.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
