package engine

import (
	"bufio"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// decodeBody undoes a Content-Encoding. The reader it returns must be closed.
func decodeBody(r io.Reader, encoding string) (io.ReadCloser, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return io.NopCloser(r), nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("gzip body: %w", err)
		}
		return z, nil
	case "deflate":
		z, err := zlib.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("deflate body: %w", err)
		}
		return z, nil
	case "br":
		return io.NopCloser(brotli.NewReader(r)), nil
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, fmt.Errorf("zstd body: %w", err)
		}
		return z.IOReadCloser(), nil
	case "lz4":
		return io.NopCloser(lz4.NewReader(r)), nil
	}
	return nil, raise(codeBadArguments, "BAD_ARGUMENTS", "Unknown Content-Encoding "+encoding)
}

// decodeBlocks undoes ClickHouse's own block compression (decompress=1).
func decodeBlocks(r io.Reader) io.Reader { return compress.NewReader(r) }

// chooseEncoding picks the best encoding out of an Accept-Encoding header, "" if none.
func chooseEncoding(accept string) string {
	offered := map[string]bool{}
	for part := range strings.SplitSeq(accept, ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(part), ";")
		if q := strings.ReplaceAll(quality, " ", ""); q == "q=0" || strings.HasPrefix(q, "q=0.000") {
			continue
		}
		offered[strings.ToLower(strings.TrimSpace(name))] = true
	}
	for _, name := range []string{"zstd", "br", "lz4", "gzip", "deflate"} {
		if offered[name] {
			return name
		}
	}
	return ""
}

// encodeBody wraps w in a Content-Encoding. Closing the result ends the encoding, not w.
func encodeBody(w io.Writer, encoding string) (io.WriteCloser, error) {
	switch encoding {
	case "gzip":
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	case "deflate":
		return zlib.NewWriterLevel(w, zlib.BestSpeed)
	case "br":
		return brotli.NewWriterLevel(w, brotli.BestSpeed), nil
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	case "lz4":
		return lz4.NewWriter(w), nil
	}
	return nil, fmt.Errorf("encode body: unknown encoding %q", encoding)
}

// A blockWriter compresses what is written to it into ClickHouse's blocks
// (compress=1), each of at most blockBytes.
type blockWriter struct {
	buf    *bufio.Writer
	blocks *compress.Writer
	to     io.Writer
}

const blockBytes = 1 << 20

func newBlockWriter(w io.Writer, method compress.Method) *blockWriter {
	b := &blockWriter{blocks: compress.NewWriter(compress.LevelZero, method), to: w}
	b.buf = bufio.NewWriterSize(blockSink{b}, blockBytes)
	return b
}

func (b *blockWriter) Write(p []byte) (int, error) { return b.buf.Write(p) }

// flush writes what is there as one more block.
func (b *blockWriter) flush() error { return b.buf.Flush() }

type blockSink struct{ b *blockWriter }

func (s blockSink) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), blockBytes)
		if err := s.b.blocks.Compress(rest[:n]); err != nil {
			return 0, fmt.Errorf("compress a block: %w", err)
		}
		if _, err := s.b.to.Write(s.b.blocks.Data); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}
