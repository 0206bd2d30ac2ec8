package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
	"github.com/sallyport-ci/sallyport/wholefile"
)

// Life is the record that an agent keeps of itself in the file `life.json` of its state
// folder, so that the next one can say how it ended. It is not safe for concurrent use.
type Life struct {
	path string
	boot string // identifies this boot of the machine
	// PreviousEnd and PreviousSeen say how the agent before ended, and when it gave its
	// last sign of life, Unix nanoseconds.
	PreviousEnd  sallyportv1.AgentEnd
	PreviousSeen uint64
}

// lived is what the file holds.
type lived struct {
	Boot string `json:"boot"`
	Seen uint64 `json:"seen_unix_nano"`
	End  string `json:"end"` // empty while the agent runs
}

// ends are the words for how an agent ended of itself.
var ends = map[string]sallyportv1.AgentEnd{
	"stopped":  sallyportv1.AgentEnd_AGENT_END_STOPPED,
	"replaced": sallyportv1.AgentEnd_AGENT_END_REPLACED,
}

// OpenLife reads what the agent before left in a folder, which it makes if need be. A
// file that cannot be understood is as good as none.
func OpenLife(dir string) (*Life, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read identity of this boot: %w", err)
	}
	l := &Life{path: filepath.Join(dir, "life.json"), boot: strings.TrimSpace(string(boot))}
	data, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read how the agent before ended: %w", err)
	}
	var before lived
	if broken := json.Unmarshal(data, &before); broken != nil || before.Seen == 0 {
		return l, nil //nolint:nilerr // as good as none
	}
	l.PreviousSeen = before.Seen
	switch end, known := ends[before.End]; {
	case known:
		l.PreviousEnd = end
	case before.Boot != l.boot:
		l.PreviousEnd = sallyportv1.AgentEnd_AGENT_END_MACHINE_DOWN
	default:
		l.PreviousEnd = sallyportv1.AgentEnd_AGENT_END_KILLED
	}
	return l, nil
}

// seen notes a sign of life.
func (l *Life) seen(unixNano uint64) error { return l.write(unixNano, "") }

// end notes that the agent ends of itself: "stopped" or "replaced".
func (l *Life) end(unixNano uint64, how string) error { return l.write(unixNano, how) }

func (l *Life) write(unixNano uint64, end string) error {
	data, err := json.Marshal(lived{Boot: l.boot, Seen: unixNano, End: end})
	if err == nil {
		err = wholefile.Write(l.path, 0o600, data, []byte("\n"))
	}
	if err != nil {
		return fmt.Errorf("keep sign of life: %w", err)
	}
	return nil
}
