package powercut

import (
	"fmt"
	"hash/maphash"
	"slices"
	"testing"
)

// sectorSize is the size in bytes of the smallest sector. A power cut does not tear it.
const sectorSize = 512

// Block records the writes to a disk and its syncs, in their order.
type Block struct {
	before []byte
	ops    []blockOp
}

// blockOp is a write, or a sync if data is nil.
type blockOp struct {
	at   int64
	data []byte
}

// StartBlock returns a recorder for a disk with this content, which counts as synced.
func StartBlock(content []byte) *Block { return &Block{before: content} }

// Record records a write, or a sync if data is nil.
func (b *Block) Record(at int64, data []byte) {
	b.ops = append(b.ops, blockOp{at, slices.Clone(data)})
}

// WithoutSyncs removes the recorded syncs: a test of a test.
func (b *Block) WithoutSyncs() {
	b.ops = slices.DeleteFunc(b.ops, func(op blockOp) bool { return op.data == nil })
}

// Test calls check once for each content of the disk that a power cut before, between
// and after the recorded operations can leave behind. A write that was not synced may
// be complete, missing or torn between sectors, whatever the order of the writes.
func (b *Block) Test(t *testing.T, check func(t *testing.T, disk []byte)) {
	t.Helper()
	if len(b.ops) == 0 {
		t.Fatal("the command wrote nothing that was recorded")
	}
	count := 0
	b.each(func(name string, disk []byte) {
		count++
		t.Run(name, func(t *testing.T) { check(t, disk) })
	})
	t.Logf("%d operations, %d contents of the disk after a power cut", len(b.ops), count)
}

// each calls found for each content that the disk may have, once.
func (b *Block) each(found func(name string, disk []byte)) {
	synced, pending := slices.Clone(b.before), []blockOp(nil)
	seen, seed := map[uint64]bool{}, maphash.MakeSeed()
	for i := 0; ; i++ {
		for _, chosen := range subsets(len(pending)) {
			for _, torn := range tears() {
				disk := slices.Clone(synced)
				for j, op := range pending {
					if chosen[j] {
						torn.write(disk, op)
					}
				}
				if key := maphash.Bytes(seed, disk); !seen[key] {
					seen[key] = true
					found(fmt.Sprintf("after %d operations, unsynced writes %v %s", i, chosen, torn.name), disk)
				}
			}
		}
		if i == len(b.ops) {
			return
		}
		op := b.ops[i]
		if op.data != nil {
			pending = append(pending, op)
			continue
		}
		for _, w := range pending {
			copy(synced[w.at:], w.data)
		}
		pending = nil
	}
}

// tear is how a power cut tears a write: only sectors for which kept is true are on
// the disk. Sectors are counted from the beginning of the write.
type tear struct {
	name string
	kept func(sector, sectors int) bool
}

func tears() []tear {
	return []tear{
		{"complete", func(int, int) bool { return true }},
		{"torn at half", func(sector, sectors int) bool { return sector < (sectors+1)/2 }},
		{"in reverse, torn at half", func(sector, sectors int) bool { return sector >= sectors/2 }},
		{"without the first sector", func(sector, _ int) bool { return sector > 0 }},
		{"without the third sector", func(sector, _ int) bool { return sector != 2 }},
		{"without the last sector", func(sector, sectors int) bool { return sector < max(1, sectors-1) }},
	}
}

func (t tear) write(disk []byte, op blockOp) {
	sectors := (len(op.data) + sectorSize - 1) / sectorSize
	for i := 0; i < sectors; {
		from, kept := i, t.kept(i, sectors)
		for i < sectors && t.kept(i, sectors) == kept {
			i++
		}
		if kept {
			copy(disk[op.at+int64(from*sectorSize):], op.data[from*sectorSize:min(len(op.data), i*sectorSize)])
		}
	}
}
