package driver

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A GELF message in datagrams: one that is longer is sent in chunks, each with a header.
const (
	gelfDatagram   = 1420
	gelfHeader     = 12
	gelfMaxChunks  = 128
	gelfChunkStart = "\x1e\x0f"
)

// gelfSender writes GELF 1.1, https://go2docs.graylog.org/current/getting_in_log_data/gelf.html.
type gelfSender struct {
	link
	hostname string
	extra    map[string]any
	compress func(io.Writer) (io.WriteCloser, error) // nil for none
}

// newGELF reads the options.
func newGELF(options map[string]string, f Facts, p Policy) (Sender, Policy, error) {
	u, err := gelfAddress(options["gelf-address"])
	if err != nil {
		return nil, p, err
	}
	s := &gelfSender{link: link{network: u.Scheme, address: u.Host}}
	if s.hostname, err = hostname(); err != nil {
		return nil, p, errors.New("gelf: cannot access hostname to set source field")
	}
	tag, err := Tag(f, options, defaultTag)
	if err != nil {
		return nil, p, err
	}
	s.extra = map[string]any{
		"_container_id": f.ID, "_container_name": f.Name, "_image_id": f.ImageID, "_image_name": f.ImageName,
		"_command": strings.Join(f.Command, " "), "_tag": tag, "_created": f.Created,
	}
	attributes, err := Attributes(f, options, func(key string) string { return "_" + strings.TrimPrefix(key, "_") })
	if err != nil {
		return nil, p, err
	}
	for key, value := range attributes {
		s.extra[key] = value
	}
	if u.Scheme == "udp" {
		p.Datagram = true
		s.compress, err = gelfCompression(options)
		return s, p, err
	}
	if text, ok := options["gelf-tcp-max-reconnect"]; ok {
		n, _ := strconv.Atoi(text) // checked when the container was made
		p.Tries = n + 1
	}
	if text, ok := options["gelf-tcp-reconnect-delay"]; ok {
		n, _ := strconv.Atoi(text) // checked when the container was made
		p.Wait = time.Duration(max(n, 0)) * time.Second
		p.MaxWait = p.Wait
	}
	return s, p, nil
}

// gelfCompression is what packs datagrams.
func gelfCompression(options map[string]string) (func(io.Writer) (io.WriteCloser, error), error) {
	level := flate.BestSpeed
	if text, ok := options["gelf-compression-level"]; ok {
		var err error
		if level, err = strconv.Atoi(text); err != nil {
			return nil, fmt.Errorf("gelf: invalid compression level %s, err %w", text, err)
		}
	}
	switch options["gelf-compression-type"] {
	case "none":
		return nil, nil
	case "zlib":
		return func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriterLevel(w, level) }, nil
	}
	return func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, level) }, nil
}

// Connect implements Sender.
func (s *gelfSender) Connect(ctx context.Context) error {
	if err := s.connect(ctx); err != nil {
		return fmt.Errorf("gelf: cannot connect to GELF endpoint: %s %w", s.address, err)
	}
	return nil
}

// Send implements Sender. Empty lines are left out, as Docker does.
func (s *gelfSender) Send(ctx context.Context, m Message) error {
	if len(m.Text) == 0 {
		return nil
	}
	data, err := s.encode(m)
	if err != nil {
		return err
	}
	if s.network == "tcp" {
		return s.write(ctx, append(data, 0), nil)
	}
	if s.compress != nil {
		if data, err = s.pack(data); err != nil {
			return err
		}
	}
	for _, datagram := range gelfChunks(data) {
		if err := s.write(ctx, datagram, nil); err != nil {
			return err
		}
	}
	if len(data) > gelfMaxChunks*(gelfDatagram-gelfHeader) {
		return rejected("msg too large, would need more than %d chunks", gelfMaxChunks)
	}
	return nil
}

// Close implements Sender.
func (s *gelfSender) Close() { s.close() }

// encode is a message as JSON.
func (s *gelfSender) encode(m Message) ([]byte, error) {
	level := severityInfo
	if m.Stderr {
		level = severityError
	}
	fields := maps.Clone(s.extra)
	fields["version"], fields["host"], fields["short_message"], fields["level"] = "1.1", s.hostname, string(m.Text), level
	fields["timestamp"] = json.Number(strconv.FormatFloat(float64(m.Time.UnixMilli())/1000, 'f', 3, 64))
	data, err := json.Marshal(fields)
	if err != nil {
		return nil, rejected("encode GELF message: %w", err)
	}
	return data, nil
}

// pack compresses a message.
func (s *gelfSender) pack(data []byte) ([]byte, error) {
	var buf bytes.Buffer
	w, err := s.compress(&buf)
	if err != nil {
		return nil, rejected("compress GELF message: %w", err)
	}
	_, err = w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, rejected("compress GELF message: %w", err)
	}
	return buf.Bytes(), nil
}

// gelfChunks cuts a message into datagrams; none if it is too long for them.
func gelfChunks(data []byte) [][]byte {
	if len(data) <= gelfDatagram {
		return [][]byte{data}
	}
	const size = gelfDatagram - gelfHeader
	count := (len(data) + size - 1) / size
	if count > gelfMaxChunks {
		return nil
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails
	chunks := make([][]byte, 0, count)
	for i := range count {
		chunk := append([]byte(gelfChunkStart), id...)
		chunk = append(chunk, byte(i), byte(count))
		chunks = append(chunks, append(chunk, data[i*size:min((i+1)*size, len(data))]...))
	}
	return chunks
}

// validateGELF checks what Docker checks of the options when a container is made.
func validateGELF(options map[string]string) error {
	u, err := gelfAddress(options["gelf-address"])
	if err != nil {
		return err
	}
	own := []string{"gelf-address", "gelf-compression-level", "gelf-compression-type", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"}
	if err := known(options, "unknown log opt %q for gelf log driver", append(own, attributeOptions()...)); err != nil {
		return err
	}
	for _, key := range own[1:3] {
		if value, ok := options[key]; ok {
			if err := validateGELFCompression(u, key, value); err != nil {
				return err
			}
		}
	}
	for _, key := range own[3:] {
		value, ok := options[key]
		if !ok {
			continue
		}
		if u.Scheme != "tcp" {
			return fmt.Errorf("%q is only valid for TCP", key)
		}
		if n, err := strconv.Atoi(value); err != nil || n < 0 {
			return fmt.Errorf("%q must be a positive integer", key)
		}
	}
	return nil
}

// validateGELFCompression checks one of the options of compression.
func validateGELFCompression(u *url.URL, key, value string) error {
	if u.Scheme != "udp" {
		return errors.New("compression is only supported on UDP")
	}
	good := value == "gzip" || value == "zlib" || value == "none"
	if key == "gelf-compression-level" {
		n, err := strconv.Atoi(value)
		good = err == nil && n >= flate.DefaultCompression && n <= flate.BestCompression
	}
	if !good {
		return fmt.Errorf("unknown value %q for log opt %q for gelf log driver", value, key)
	}
	return nil
}

// gelfAddress reads the address of a collector.
func gelfAddress(text string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New("gelf-address is a required parameter")
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "udp" && u.Scheme != "tcp" {
		return nil, errors.New("gelf: endpoint needs to be TCP or UDP")
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return nil, errors.New("gelf: please provide gelf-address as proto://host:port")
	}
	return u, nil
}
