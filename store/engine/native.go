package engine

import (
	"errors"
	"fmt"
	"io"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// reencodeNative copies blocks in the Native format from r, where the library wrote
// them at revision 0, to w at the revision a client asked for.
func reencodeNative(w io.Writer, r io.Reader, revision uint64) error {
	reader := chproto.NewReader(r)
	var buf chproto.Buffer
	for {
		block := proto.NewBlock()
		if err := block.Decode(reader, 0); err != nil {
			if errors.Is(err, io.EOF) && len(block.Columns) == 0 {
				return nil
			}
			return fmt.Errorf("decode a block of the engine: %w", err)
		}
		buf.Reset()
		if err := block.Encode(&buf, revision); err != nil {
			return fmt.Errorf("encode a block for the client: %w", err)
		}
		if _, err := w.Write(buf.Buf); err != nil {
			return err
		}
	}
}

// A pieceReader reads the output of a streamed statement as bytes.
type pieceReader struct {
	next func() ([]byte, error)
	rest []byte
	err  error // the statement's own error, kept apart from the decoder's
}

func (p *pieceReader) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		piece, err := p.next()
		if err != nil {
			p.err = err
			return 0, err
		}
		if piece == nil {
			return 0, io.EOF
		}
		p.rest = piece
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
