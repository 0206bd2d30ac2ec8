package credential

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// maxEnvironmentBytes bounds what is read of the environment; the kernel's own limit for
// one is lower (execve(2): a quarter of the stack's limit).
const maxEnvironmentBytes = 8 << 20

// wipeEnvironment takes variables out of this process's environment, and overwrites them
// where the kernel put it: /proc/PID/environ shows that place, and unsetting a variable
// changes nothing there.
func wipeEnvironment(names ...string) (err error) {
	for _, name := range names {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	from, to, err := environmentPlace()
	if err != nil {
		return err
	}
	memory, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	data := make([]byte, to-from)
	if _, err := memory.ReadAt(data, from); err != nil {
		return fmt.Errorf("read the environment: %w", err)
	}
	for at := 0; at < len(data); {
		entry, _, _ := bytes.Cut(data[at:], []byte{0})
		for _, name := range names {
			if bytes.HasPrefix(entry, []byte(name+"=")) {
				if _, err := memory.WriteAt(make([]byte, len(entry)), from+int64(at)); err != nil {
					return fmt.Errorf("overwrite the environment: %w", err)
				}
			}
		}
		at += len(entry) + 1
	}
	clear(data)
	return nil
}

// environmentPlace returns where the environment lies: env_start and env_end of proc(5).
func environmentPlace() (from, to int64, err error) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, 0, err
	}
	// The second field, the program's name, may hold anything but ends with the last ")".
	_, rest, ok := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
	fields := strings.Fields(rest)
	const third, start = 3, 50 // numbers of the first field here and of env_start
	if !ok || len(fields) < start-third+2 {
		return 0, 0, errors.New("/proc/self/stat does not say where the environment is")
	}
	from, err = strconv.ParseInt(fields[start-third], 10, 64)
	if err == nil {
		to, err = strconv.ParseInt(fields[start-third+1], 10, 64)
	}
	if err != nil || from <= 0 || to < from || to-from > maxEnvironmentBytes {
		return 0, 0, errors.New("/proc/self/stat does not say where the environment is")
	}
	return from, to, nil
}
