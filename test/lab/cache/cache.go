// Package cache keeps what is slow to build (downloads, binaries, images) in a
// folder outside the checkout, under a key made of everything it was built
// from. It knows nothing of what the entries are.
//
// An entry is a folder. It is built beside the others under another name,
// synced, and renamed: what is there under its own name is whole, after a
// power cut too. One lock an entry keeps two runs from building the same.
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
	// Variable names the folder, where the environment gives one.
	Variable = "FIRSTBOOT_CACHE"
	// DefaultDir is the folder otherwise.
	DefaultDir = "/var/cache/firstboot-lab"
	// progressEvery is how often a slow step says that it goes on.
	progressEvery = 10 * time.Second
	// unused is how long an older entry of a name must not have been asked
	// for before a newer one takes its place: a run takes an hour at most.
	unused = 24 * time.Hour
	// partial ends the name of what is still being built.
	partial = ".part"
)

// Logf takes one line of progress, without a line end.
type Logf func(format string, args ...any)

// Store is a folder of entries.
type Store struct {
	Dir string
	Log Logf // nil: silent
}

// Open returns the store that the environment names, or the default one.
// Nothing is made before the first entry.
func Open(log Logf) Store {
	dir := os.Getenv(Variable)
	if dir == "" {
		dir = DefaultDir
	}
	return Store{Dir: dir, Log: log}
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// Get returns the folder of the entry name (lower case, digits and dashes)
// with this key (see Key). Where there is none, build fills an empty folder
// dir, which is then published; what build left in it when it fails is
// removed. While another process builds the same entry, Get waits for it.
func (s Store) Get(ctx context.Context, name, key string, build func(ctx context.Context, dir string) error) (string, error) {
	if !validName.MatchString(name) || !validName.MatchString(key) {
		return "", fmt.Errorf("cannot keep %q under the key %q: want lower case letters, digits and dashes", name, key)
	}
	entry := filepath.Join(s.Dir, name+"-"+key)
	if touch(entry) {
		return entry, nil
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the cache: %w (set %s to a folder that you may write)", err, Variable)
	}
	lock, err := s.lock(ctx, name, key)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if touch(entry) { // another run built it meanwhile
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

// touch tells whether the entry is there, and notes that it was asked for.
func touch(entry string) bool {
	now := time.Now()
	return os.Chtimes(entry, now, now) == nil
}

// publish builds under another name, and renames once all of it is on disk.
// The name is always the same, and the lock is held: what stands there was
// left by a run that was killed.
func (s Store) publish(ctx context.Context, name, entry string, build func(context.Context, string) error) error {
	dir := entry + partial
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot remove what a killed run left: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("cannot build %s: %w", name, err)
	}
	stop := s.sayAlive(name)
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

// sayAlive says every few seconds that a step still goes on.
func (s Store) sayAlive(name string) (stop func()) {
	done := make(chan struct{})
	start := time.Now()
	go func() {
		tick := time.NewTicker(progressEvery)
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

// prune removes entries of the same name that nobody asked for in a long time.
// It is housekeeping: what cannot be removed now goes another time.
func (s Store) prune(name, key string) {
	all, _ := filepath.Glob(filepath.Join(s.Dir, name+"-*"))
	for _, path := range all {
		other := strings.TrimSuffix(filepath.Base(path)[len(name)+1:], partial)
		info, err := os.Stat(path)
		if err != nil || !isKey(other) || other == key || time.Since(info.ModTime()) < unused {
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

// syncAll brings everything of the folder's file system to the disk: one call,
// where an image has thousands of files.
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
