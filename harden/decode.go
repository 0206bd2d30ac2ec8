package harden

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// errEmpty says that there is no further document.
var errEmpty = errors.New("empty")

// decode reads a document. The library panics on some texts; that is an error here.
func decode(d *yaml.Decoder, into *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the YAML library gave up: %v", r)
		}
	}()
	if err := d.Decode(into); errors.Is(err, io.EOF) {
		return errEmpty
	} else if err != nil {
		return err
	}
	return nil
}

var libraryLine = regexp.MustCompile(`^yaml: (?:unmarshal errors:\s*)?(?:line (\d+): )?`)

// libraryError takes the line out of an error of the library.
func libraryError(err error) (Position, string) {
	text := err.Error()
	m := libraryLine.FindStringSubmatch(text)
	if m == nil {
		return Position{}, text
	}
	message := "it is no YAML: " + text[len(m[0]):]
	if line, err := strconv.Atoi(m[1]); err == nil {
		return Position{line, 1}, message
	}
	return Position{}, message
}

// maxTree bounds the nodes of a tree with its aliases followed: a few lines of anchors can
// stand for more than any machine holds.
const maxTree = 500_000

var errTree = errors.New("its aliases stand for too much")

// tree is what a node means: maps, lists and scalars with their tags, aliases followed.
func tree(n *yaml.Node) (any, error) {
	left := maxTree
	return treeOf(n, &left, 0)
}

func treeOf(n *yaml.Node, left *int, depth int) (any, error) {
	*left--
	if *left < 0 || depth > 200 {
		return nil, errTree
	}
	if n == nil {
		return nil, nil
	}
	switch n.Kind {
	case yaml.AliasNode:
		return treeOf(n.Alias, left, depth+1)
	case yaml.MappingNode:
		out := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, err := treeOf(n.Content[i], left, depth+1)
			if err != nil {
				return nil, err
			}
			v, err := treeOf(n.Content[i+1], left, depth+1)
			if err != nil {
				return nil, err
			}
			out[fmt.Sprint(k)] = v
		}
		return out, nil
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := treeOf(c, left, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	default:
	}
	return n.ShortTag() + " " + n.Value, nil
}
