package recording

import (
	"errors"
	"hash/crc32"
	"time"
)

// magic begins every recording. A transfer that takes the file for text, or strips the
// eighth bit, breaks it at once.
const magic = "\x89SPREC\r\n"

const (
	// majorVersion is raised when an older reader would misread a file.
	majorVersion = 1
	// minorVersion is raised when a file may hold kinds of frames that an older reader
	// passes over.
	minorVersion = 0

	headerBytes  = len(magic) + 4 + 4 // magic, versions, checksum
	prefixBytes  = 1 + 4              // kind, length
	batchPrefix  = 8                  // when it was recorded
	trailerBytes = 8 + 8              // batches, events

	// maxFrame bounds the payload of a frame; a NATS message has at most 8 MiB.
	maxFrame = 16 << 20
	// maxAbout bounds the frame that says what the recording is.
	maxAbout = 64 << 10
)

// Kinds of frames. A reader passes over those that it does not know.
const (
	kindAbout   = 1
	kindBatch   = 2
	kindTrailer = 3
)

// castagnoli is the polynomial of all checksums (RFC 3720, B.4), which processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// What can be wrong with a file. What was read before the error is good.
var (
	// ErrNotRecording says that the file does not begin as a recording does.
	ErrNotRecording = errors.New("not a recording")
	// ErrNewer says that the file needs a newer version of this program.
	ErrNewer = errors.New("written by a newer version of Sallyport")
	// ErrTruncated says that the end of the file is missing: the recorder was killed, the
	// disk was full, or a copy broke off.
	ErrTruncated = errors.New("the recording is cut off")
	// ErrDamaged says that bytes were changed.
	ErrDamaged = errors.New("the recording is damaged")
)

// About says what a recording is of. All of it is for people.
type About struct {
	// Program and its version that wrote the file.
	Program string `json:"program,omitempty"`
	// Started is when recording began.
	Started time.Time `json:"started,omitzero"`
	// Command that was watched, if it was one.
	Command []string `json:"command,omitempty"`
	// Run that was recorded, if only one was.
	Run string `json:"run,omitempty"`
	// Note by whoever made it.
	Note string `json:"note,omitempty"`
}
