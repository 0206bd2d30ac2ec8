package agent

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sallyport-ci/sallyport/stream"
	"github.com/sallyport-ci/sallyport/wholefile"
)

// Identity returns the stable identity of this machine's agent, kept in the file
// `agent-id` of dir. Where there is none it is made from the machine's own identity
// or, if the machine has none, at random.
func Identity(dir string) (string, error) {
	path := filepath.Join(dir, "agent-id")
	data, err := os.ReadFile(path)
	if err == nil {
		id := strings.TrimSpace(string(data))
		if !stream.ValidAgentID(id) {
			return "", fmt.Errorf("read agent identity: %s does not hold 1 to 64 characters of [A-Za-z0-9_-]; remove it and a new one is made", path)
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read agent identity: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make state folder: %w", err)
	}
	id := newIdentity()
	if err := wholefile.Write(path, 0o600, []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("keep agent identity: %w", err)
	}
	return id, nil
}

func newIdentity() string {
	machine, err := os.ReadFile("/etc/machine-id")
	if id := strings.TrimSpace(string(machine)); err == nil && len(id) == 32 {
		// The machine's identity is confidential (machine-id(5)): only a hash leaves it.
		sum := sha256.Sum256([]byte("sallyport agent " + id))
		return hex.EncodeToString(sum[:8])
	}
	return strings.ToLower(rand.Text()[:16])
}
