package image

import (
	"context"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// room is an error if there is no room for so many bytes more.
func (s *Store) room(bytes int64) error {
	if s.Room == nil {
		return nil
	}
	return s.Room(bytes)
}

// checkRoom is a handler of content that is about to be fetched.
func (s *Store) checkRoom(_ context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	return nil, s.room(d.Size)
}

// roomyReader reads what is stored as it is read, as long as there is room.
type roomyReader struct {
	io.Reader
	s *Store
}

// Read implements io.Reader.
func (r roomyReader) Read(p []byte) (int, error) {
	if err := r.s.room(int64(len(p))); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
