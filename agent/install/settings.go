package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// settings returns the file of settings with some of them set: all else in it stays.
func (i *Installer) settings() ([]byte, error) {
	data, err := os.ReadFile(i.path(settingsPath))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	if len(data) == 0 {
		data = []byte("# Settings of sallyport-agent: its flags, as SALLYPORT_… (sallyport-agent --help).\n")
	}
	names := make([]string, 0, len(i.cfg.Settings))
	for name := range i.cfg.Settings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value, err := quoteSetting(i.cfg.Settings[name])
		if err != nil {
			return nil, fmt.Errorf("setting %s: %w", name, err)
		}
		data, _ = set(data, name, value)
	}
	return data, nil
}

// quoteSetting writes a value as systemd's EnvironmentFile= reads it (systemd.exec(5)).
func quoteSetting(value string) (string, error) {
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errors.New("a control character is in it") // and not what it is: it may be a secret
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range value {
		if strings.ContainsRune("\"\\`$", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String(), nil
}

// Settings returns the names of the settings that are there below root.
func Settings(root string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(root, settingsPath))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	var names []string
	for _, l := range lines(data) {
		if name, _, ok := strings.Cut(strings.TrimSpace(string(data[l.begin:l.end])), "="); ok && !strings.HasPrefix(name, "#") {
			names = append(names, name)
		}
	}
	return names, nil
}
