package golden

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// maxProgramHeaders limits the program headers that are read; an executable of
// Linux has about ten.
const maxProgramHeaders = 128

var errNotExecutable = errors.New("it is not an ELF executable")

// architecture returns the architecture that an executable is built for, and
// whether it is dynamically linked.
//
// It reads the two headers of elf(5) that tell this. elf.Open reads every
// section, and makes firstboot 120 kB larger.
func architecture(path string) (name string, dynamic bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	return readArchitecture(f)
}

func readArchitecture(r io.ReaderAt) (name string, dynamic bool, err error) {
	ident := make([]byte, elf.EI_NIDENT)
	if _, err := r.ReadAt(ident, 0); err != nil || !bytes.HasPrefix(ident, []byte(elf.ELFMAG)) {
		return "", false, errNotExecutable
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(ident[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	class := elf.Class(ident[elf.EI_CLASS])
	var machine, count, size uint16
	var offset uint64
	switch class {
	case elf.ELFCLASS64:
		var h elf.Header64
		err = readStruct(r, order, 0, &h)
		machine, count, size, offset = h.Machine, h.Phnum, h.Phentsize, h.Phoff
	case elf.ELFCLASS32:
		var h elf.Header32
		err = readStruct(r, order, 0, &h)
		machine, count, size, offset = h.Machine, h.Phnum, h.Phentsize, uint64(h.Phoff)
	default:
		return "", false, errNotExecutable
	}
	if err != nil || count > maxProgramHeaders || offset > 1<<32 {
		return "", false, errNotExecutable
	}
	for i := range uint64(count) {
		// p_type is the first field of a program header of either class.
		var kind uint32
		if err := readStruct(r, order, int64(offset+i*uint64(size)), &kind); err != nil { //nolint:gosec // limited above
			return "", false, errNotExecutable
		}
		dynamic = dynamic || elf.ProgType(kind) == elf.PT_INTERP
	}
	return architectureName(elf.Machine(machine), class), dynamic, nil
}

// readStruct reads a value of fixed size at an offset.
func readStruct(r io.ReaderAt, order binary.ByteOrder, offset int64, v any) error {
	return binary.Read(io.NewSectionReader(r, offset, int64(binary.Size(v))), order, v)
}
