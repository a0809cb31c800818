package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Save keeps the cluster as it is, under a name: the hosts' disks and etcd's
// data. The hosts have to be powered off. A story starts from it with Restore,
// in the time of a boot instead of that of a join.
func (l *Lab) Save(ctx context.Context, name string) error {
	if err := l.Etcd.Stop(); err != nil {
		return err
	}
	if err := copyFolder(l.Etcd.Data, l.savedEtcd(name)); err != nil {
		return fmt.Errorf("cannot save etcd's data: %w", err)
	}
	err := l.Each(func(h *Host) error { return h.machine.Save(ctx, name) })
	return errors.Join(err, l.Etcd.Start(ctx))
}

// Restore brings a saved cluster back, its hosts powered off.
func (l *Lab) Restore(ctx context.Context, name string) error {
	err := l.Each(func(h *Host) error {
		h.hangUp()
		return h.machine.Restore(ctx, name)
	})
	if err := errors.Join(err, l.Etcd.Stop()); err != nil {
		return err
	}
	if err := os.RemoveAll(l.Etcd.Data); err != nil {
		return fmt.Errorf("cannot restore etcd's data: %w", err)
	}
	if err := copyFolder(l.savedEtcd(name), l.Etcd.Data); err != nil {
		return fmt.Errorf("cannot restore etcd's data: %w", err)
	}
	return l.Etcd.Start(ctx)
}

func (l *Lab) savedEtcd(name string) string { return filepath.Join(l.Dir, "saved-"+name+"-etcd") }

// copyFolder copies a folder to a place where nothing is. etcd wants its data
// to be no one else's.
func copyFolder(from, to string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	return os.Chmod(to, 0o700)
}
