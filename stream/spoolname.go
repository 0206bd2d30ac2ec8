package stream

import (
	"fmt"
	"strconv"
	"strings"
)

// SpoolSuffix ends the name of each batch in an agent's spool.
const SpoolSuffix = ".batch"

// SpoolName is the name of a batch in an agent's spool. Names are in the order in which the
// batches were made.
type SpoolName struct {
	Epoch, First uint64
	// Events is how many the batch has.
	Events int
}

func (n SpoolName) String() string {
	return fmt.Sprintf("%020d-%020d-%d%s", n.Epoch, n.First, n.Events, SpoolSuffix)
}

// ParseSpoolName reads what String writes, and nothing else.
func ParseSpoolName(s string) (n SpoolName, ok bool) {
	fields := strings.Split(strings.TrimSuffix(s, SpoolSuffix), "-")
	if len(fields) != 3 {
		return SpoolName{}, false
	}
	var errs [3]error
	n.Epoch, errs[0] = strconv.ParseUint(fields[0], 10, 64)
	n.First, errs[1] = strconv.ParseUint(fields[1], 10, 64)
	n.Events, errs[2] = strconv.Atoi(fields[2])
	if errs != [3]error{} || n.Events < 0 || n.String() != s {
		return SpoolName{}, false
	}
	return n, true
}
