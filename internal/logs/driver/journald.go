package driver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// journalSocket is where the machine's journal listens.
const journalSocket = "/run/systemd/journal/socket"

// journaldSender writes to the journal of systemd, https://systemd.io/JOURNAL_NATIVE_PROTOCOL. An entry goes in one datagram: a line or a part of one has at most
// 16 KiB, and a Unix socket takes some 200.
type journaldSender struct {
	link
	fields  map[string]string // what is the same for every line
	ordinal uint64
}

// newJournald reads the options. Without a journal there is no driver.
func newJournald(socket string, options map[string]string, f Facts) (*journaldSender, error) {
	if _, err := os.Stat(socket); err != nil {
		return nil, errors.New("journald is not enabled on this host")
	}
	tag, err := Tag(f, options, defaultTag)
	if err != nil {
		return nil, err
	}
	s := &journaldSender{link: link{network: "unixgram", address: socket}, fields: map[string]string{
		"CONTAINER_ID": short(f.ID), "CONTAINER_ID_FULL": f.ID, "CONTAINER_NAME": f.Name, "CONTAINER_TAG": tag, "IMAGE_NAME": f.ImageName,
		"SYSLOG_IDENTIFIER": tag, "CONTAINER_LOG_EPOCH": newID(),
	}}
	attributes, err := Attributes(f, options, journaldField)
	if err != nil {
		return nil, err
	}
	maps.Copy(s.fields, attributes)
	return s, nil
}

// journaldField makes the name of a label or variable one that a field of the journal can have.
func journaldField(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return unicode.ToUpper(r)
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, key)
	return strings.TrimLeft(name, "_")
}

// Connect implements Sender.
func (s *journaldSender) Connect(ctx context.Context) error { return s.connect(ctx) }

// Send implements Sender.
func (s *journaldSender) Send(ctx context.Context, m Message) error {
	fields := maps.Clone(s.fields)
	fields["MESSAGE"], fields["PRIORITY"] = string(m.Text), strconv.Itoa(severityInfo)
	if m.Stderr {
		fields["PRIORITY"] = strconv.Itoa(severityError)
	}
	fields["SYSLOG_TIMESTAMP"] = m.Time.Format(time.RFC3339Nano)
	if p := m.Partial; p != nil {
		fields["CONTAINER_PARTIAL_ID"] = p.ID
		fields["CONTAINER_PARTIAL_ORDINAL"], fields["CONTAINER_PARTIAL_LAST"] = strconv.Itoa(p.Ordinal), strconv.FormatBool(p.Last)
		if !p.Last {
			fields["CONTAINER_PARTIAL_MESSAGE"] = "true"
		}
	}
	s.ordinal++
	fields["CONTAINER_LOG_ORDINAL"] = strconv.FormatUint(s.ordinal, 10)
	return s.write(ctx, journalEntry(fields), nil)
}

// Close implements Sender.
func (s *journaldSender) Close() { s.close() }

// journalEntry is the form in which the journal takes an entry: NAME=value, or the name, the length and the value of one with newlines.
func journalEntry(fields map[string]string) []byte {
	var buf bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		buf.WriteString(name)
		if strings.ContainsRune(value, '\n') {
			buf.WriteByte('\n')
			buf.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
		} else {
			buf.WriteByte('=')
		}
		buf.WriteString(value)
		buf.WriteByte('\n')
	}
	return buf.Bytes()
}
