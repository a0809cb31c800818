package artifact

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// An RPM consists of a lead of 96 bytes, a signature header, the header and the
// payload. A header consists of an intro (magic, number of entries, size of the
// store), the entries (tag, type, offset, count) and the store. Both RPM
// libraries trust the entries: a crafted file of 136 bytes made one of them
// panic, another file made it allocate 400 MB. So firstboot checks the layout
// first.
const (
	leadSize, introSize, entrySize = 96, 16, 16
	// maxHeaderEntries is rpm's own limit. maxStore, in bytes, is less than
	// rpm's: typical headers have tens of kilobytes.
	maxHeaderEntries = 0xffff
	maxStore         = 4 << 20
)

// headerTypeSizes are the sizes of a value in bytes, by RPM type; 0: a string
// that ends with a zero byte.
var headerTypeSizes = [...]int64{
	0: -1, // NULL: no value
	1: 1, 2: 1, 3: 2, 4: 4, 5: 8,
	6: 0,
	7: 1,
	8: 0, 9: 0,
}

// readHeaders reads an RPM's lead and both headers. It checks that every entry
// lies within its store, and that the entries do not overlap.
func readHeaders(r io.Reader) ([]byte, error) {
	var all bytes.Buffer
	r = io.TeeReader(r, &all)
	lead, err := readN(r, leadSize)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(lead, []byte{0xed, 0xab, 0xee, 0xdb}) {
		return nil, errors.New("not an RPM")
	}
	const alignment = 8
	if err := checkHeader(r, alignment); err != nil {
		return nil, fmt.Errorf("signature header: %w", err)
	}
	if err := checkHeader(r, 1); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	return all.Bytes(), nil
}

// checkHeader reads and checks one header and its padding.
func checkHeader(r io.Reader, alignment int) error {
	intro, err := readN(r, introSize)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(intro, []byte{0x8e, 0xad, 0xe8, 0x01}) {
		return errors.New("wrong magic")
	}
	entries, size := binary.BigEndian.Uint32(intro[8:]), binary.BigEndian.Uint32(intro[12:])
	if entries > maxHeaderEntries || size > maxStore {
		return fmt.Errorf("too large: %d entries, %d bytes", entries, size)
	}
	index, err := readN(r, int(entries)*entrySize)
	if err != nil {
		return err
	}
	store, err := readN(r, int(size))
	if err != nil {
		return err
	}
	if _, err := readN(r, -int(size)&(alignment-1)); err != nil {
		return err
	}
	return checkIndex(index, store)
}

// checkIndex checks that the entries lie within the store and do not overlap.
// Only the two entries that describe the header itself may overlap others.
func checkIndex(index, store []byte) error {
	const allowedOverlap = 64 // in bytes
	left := int64(len(store)) + allowedOverlap
	for ; len(index) > 0; index = index[entrySize:] {
		size, err := entryLength(index[:entrySize], store)
		if err != nil {
			return fmt.Errorf("tag %d: %w", binary.BigEndian.Uint32(index), err)
		}
		if left -= size; left < 0 {
			return errors.New("overlapping entries")
		}
	}
	return nil
}

// entryLength returns how many bytes of the store an entry uses.
func entryLength(entry, store []byte) (int64, error) {
	kind := binary.BigEndian.Uint32(entry[4:])
	offset, count := int64(binary.BigEndian.Uint32(entry[8:])), int64(binary.BigEndian.Uint32(entry[12:]))
	if kind >= uint32(len(headerTypeSizes)) || headerTypeSizes[kind] < 0 {
		return 0, fmt.Errorf("unknown type %d", kind)
	}
	if offset >= int64(len(store)) || count < 1 || count > int64(len(store)) {
		return 0, errors.New("out of range")
	}
	size := headerTypeSizes[kind] * count
	if size == 0 {
		return stringsLength(store[offset:], count)
	}
	if offset+size > int64(len(store)) {
		return 0, errors.New("out of range")
	}
	return size, nil
}

// stringsLength returns the length of count strings with their zero bytes.
func stringsLength(store []byte, count int64) (int64, error) {
	length := 0
	for range count {
		end := bytes.IndexByte(store[length:], 0)
		if end < 0 {
			return 0, errors.New("unterminated string")
		}
		length += end + 1
	}
	return int64(length), nil
}

// readN reads exactly n bytes.
func readN(r io.Reader, n int) ([]byte, error) {
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, errors.New("unexpected end of the file")
	}
	return data, nil
}
