package artifact

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// An RPM is a lead of 96 bytes, a signature header, the header, the payload.
// A header is an intro (magic, number of entries, size of the store), the
// entries (tag, type, offset, count) and the store. Both RPM libraries believe
// what the entries say: one crafted file of 136 bytes made one of them panic,
// another one made it allocate 400 MB. So the layout is checked first.
const (
	leadSize, introSize, entrySize = 96, 16, 16
	// maxEntriesRPM is rpm's own limit; maxStore, in bytes, is less than
	// rpm's: the headers of the packages here have tens of kilobytes.
	maxEntriesRPM = 0xffff
	maxStore      = 4 << 20
)

// headerTypeSizes are the bytes a value has, by RPM type; 0: a text that ends
// with a zero byte.
var headerTypeSizes = [...]int64{
	0: -1, // NULL: no value
	1: 1, 2: 1, 3: 2, 4: 4, 5: 8,
	6: 0,
	7: 1,
	8: 0, 9: 0,
}

// readHeaders reads an RPM's lead and both headers and checks that no entry
// points out of its store and that they are not more than the store holds.
func readHeaders(r io.Reader) ([]byte, error) {
	var all bytes.Buffer
	r = io.TeeReader(r, &all)
	lead, err := readN(r, leadSize)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(lead, []byte{0xed, 0xab, 0xee, 0xdb}) {
		return nil, errors.New("it is no RPM")
	}
	const alignment = 8
	if err := checkHeader(r, alignment); err != nil {
		return nil, fmt.Errorf("its signature header: %w", err)
	}
	if err := checkHeader(r, 1); err != nil {
		return nil, fmt.Errorf("its header: %w", err)
	}
	return all.Bytes(), nil
}

func checkHeader(r io.Reader, alignment int) error {
	intro, err := readN(r, introSize)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(intro, []byte{0x8e, 0xad, 0xe8, 0x01}) {
		return errors.New("wrong magic")
	}
	entries, size := binary.BigEndian.Uint32(intro[8:]), binary.BigEndian.Uint32(intro[12:])
	if entries > maxEntriesRPM || size > maxStore {
		return fmt.Errorf("%d entries in %d bytes are more than a package has", entries, size)
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
	return checkEntriesOf(index, store)
}

// checkEntriesOf checks where the entries point. In a package they do not
// overlap but for the two that describe the header itself.
func checkEntriesOf(index, store []byte) error {
	const slack = 64
	left := int64(len(store)) + slack
	for ; len(index) > 0; index = index[entrySize:] {
		size, err := entryLength(index[:entrySize], store)
		if err != nil {
			return fmt.Errorf("tag %d: %w", binary.BigEndian.Uint32(index), err)
		}
		if left -= size; left < 0 {
			return errors.New("its entries overlap")
		}
	}
	return nil
}

// entryLength is how many bytes of the store an entry takes.
func entryLength(entry, store []byte) (int64, error) {
	kind := binary.BigEndian.Uint32(entry[4:])
	offset, count := int64(binary.BigEndian.Uint32(entry[8:])), int64(binary.BigEndian.Uint32(entry[12:]))
	if kind >= uint32(len(headerTypeSizes)) || headerTypeSizes[kind] < 0 {
		return 0, fmt.Errorf("type %d is unknown", kind)
	}
	if offset >= int64(len(store)) || count < 1 || count > int64(len(store)) {
		return 0, errors.New("out of range")
	}
	size := headerTypeSizes[kind] * count
	if size == 0 {
		return textsLength(store[offset:], count)
	}
	if offset+size > int64(len(store)) {
		return 0, errors.New("out of range")
	}
	return size, nil
}

// textsLength is the length of count texts with their zero bytes.
func textsLength(store []byte, count int64) (int64, error) {
	length := 0
	for range count {
		end := bytes.IndexByte(store[length:], 0)
		if end < 0 {
			return 0, errors.New("a text without an end")
		}
		length += end + 1
	}
	return int64(length), nil
}

func readN(r io.Reader, n int) ([]byte, error) {
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, errors.New("it ends too early")
	}
	return data, nil
}
