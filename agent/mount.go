package agent

import (
	"bufio"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// mountTable says where file systems are mounted in the agent's own mount namespace.
type mountTable struct {
	points map[uint32]string // by device, as the kernel numbers it
	read   time.Time
}

// mountsKept is how long a table holds before a device that is not in it makes the
// agent look again.
const mountsKept = time.Second

// path returns a file's path on the machine from that below its file system's root.
// Where the root is not mounted (a layer of a container, a part of a disk) it stays.
func (t *mountTable) path(device uint32, below string) string {
	point, ok := t.points[device]
	if !ok && time.Since(t.read) > mountsKept {
		t.load()
		point, ok = t.points[device]
	}
	if !ok {
		return below
	}
	return path.Join(point, below)
}

func (t *mountTable) load() {
	t.read = time.Now()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return // paths stay as they are
	}
	defer func() { _ = f.Close() }()
	t.points = make(map[uint32]string)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime …: proc_pid_mountinfo(5)
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || fields[3] != "/" {
			continue
		}
		major, minor, _ := strings.Cut(fields[2], ":")
		high, err1 := strconv.ParseUint(major, 10, 12)
		low, err2 := strconv.ParseUint(minor, 10, 20)
		if err1 != nil || err2 != nil {
			continue
		}
		device := uint32(high<<20 | low)
		if before, ok := t.points[device]; !ok || len(fields[4]) < len(before) {
			t.points[device] = unescapeMount(fields[4])
		}
	}
}

// unescapeMount undoes \040 and the like.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
