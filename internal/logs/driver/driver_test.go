package driver

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// at is when the tests' lines were printed.
func at() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 891_234_567, time.UTC) }

func facts() Facts {
	return Facts{
		ID: strings.Repeat("0123456789ab", 5) + "cdef", Name: "web", Command: []string{"/bin/sh", "-c", "true"}, ImageID: "sha256:abcdef0123", ImageName: "busybox:1",
		Created: at(), Env: []string{"COLOUR=red", "EMPTY", "_PATH=x"}, Labels: map[string]string{"tier": "front", "com.example.team": "a"},
	}
}

// sender makes the sender of a driver.
func sender(t *testing.T, name string, options map[string]string) (Sender, Policy) {
	t.Helper()
	if err := Validate(name, options); err != nil {
		t.Fatal(err)
	}
	s, policy, err := New(name, options, facts())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, policy
}

// send sends lines: those that begin with "err" are of stderr.
func send(t *testing.T, s Sender, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if err := s.Send(t.Context(), Message{Text: []byte(line), Stderr: strings.HasPrefix(line, "err"), Time: at()}); err != nil {
			t.Fatal(err)
		}
	}
}

// udp listens for datagrams; next returns the next one.
func udp(t *testing.T) (address string, next func() []byte) {
	t.Helper()
	return listenPacket(t, "udp", "127.0.0.1:0")
}

func listenPacket(t *testing.T, network, on string) (address string, next func() []byte) {
	t.Helper()
	var c net.ListenConfig
	conn, err := c.ListenPacket(t.Context(), network, on)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.LocalAddr().String(), func() []byte {
		t.Helper()
		buf := make([]byte, 1<<16)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		return buf[:n]
	}
}

// stream listens for connections; accept returns the next one.
func stream(t *testing.T, network, on string) (address string, accept func() *bufio.ReadWriter) {
	t.Helper()
	var c net.ListenConfig
	l, err := c.Listen(t.Context(), network, on)
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), accepts(t, l)
}

func accepts(t *testing.T, l net.Listener) func() *bufio.ReadWriter {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	return func() *bufio.ReadWriter {
		t.Helper()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		t.Cleanup(func() { _ = conn.Close() })
		return bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriterSize(conn, 0))
	}
}

func TestSyslogFormats(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	pid, stamp := os.Getpid(), at().Local().Format(time.Stamp)
	for _, tc := range []struct{ format, facility, want string }{
		{"", "", fmt.Sprintf("<30>%s 0123456789ab[%d]: hello\n", stamp, pid)},
		{"rfc3164", "local7", fmt.Sprintf("<190>%s %s 0123456789ab[%d]: hello\n", stamp, host, pid)},
		{"rfc5424", "1", fmt.Sprintf("<14>1 %s %s 0123456789ab %d 0123456789ab - hello\n", at().Local().Format(time.RFC3339), host, pid)},
		{"rfc5424micro", "kern", fmt.Sprintf("<6>1 %s %s 0123456789ab %d 0123456789ab - hello\n", at().Local().Format("2006-01-02T15:04:05.000000Z07:00"), host, pid)},
	} {
		address, next := udp(t)
		s, policy := sender(t, "syslog", map[string]string{"syslog-address": "udp://" + address, "syslog-format": tc.format, "syslog-facility": tc.facility})
		send(t, s, "", "hello", "error")
		if got := string(next()); got != tc.want {
			t.Errorf("format %q: %q, not %q", tc.format, got, tc.want)
		}
		if got := string(next()); !policy.Datagram || !strings.HasSuffix(got, "error\n") || strings.HasPrefix(got, tc.want[:4]) {
			t.Errorf("stderr has another severity: %q", got)
		}
	}
}

func TestSyslogOverStreams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for network, on := range map[string]string{"tcp": "127.0.0.1:0", "unix": path} {
		address, accept := stream(t, network, on)
		s, _ := sender(t, "syslog", map[string]string{"syslog-address": network + "://" + address, "tag": "{{.Name}}/{{.ImageName}}"})
		send(t, s, "one", "two")
		r := accept()
		for _, want := range []string{"one", "two"} {
			if got, err := r.ReadString('\n'); err != nil || !strings.HasSuffix(got, fmt.Sprintf(" web/busybox:1[%d]: %s\n", os.Getpid(), want)) {
				t.Errorf("%s: %q, %v", network, got, err)
			}
		}
	}
}

// A collector that is started again gets every line: the first write to a connection that the other side has ended succeeds, and is lost.
func TestNoLineIsWrittenToAConnectionThatHasEnded(t *testing.T) {
	var c net.ListenConfig
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, _ := sender(t, "gelf", map[string]string{"gelf-address": "tcp://" + l.Addr().String()})
	for i := range 3 {
		send(t, s, fmt.Sprint("line ", i))
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if got, err := bufio.NewReader(conn).ReadString(0); err != nil || !strings.Contains(got, fmt.Sprintf("\"line %d\"", i)) {
			t.Errorf("%q, %v", got, err)
		}
		_ = conn.Close()
		deadline := time.Now().Add(5 * time.Second)
		for !ended(s.(*gelfSender).conn) {
			if time.Now().After(deadline) {
				t.Fatal("the end of the connection is not seen")
			}
		}
	}
}

func TestGELF(t *testing.T) {
	unpack := map[string]func(io.Reader) (io.Reader, error){
		"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"zlib": func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) },
		"none": func(r io.Reader) (io.Reader, error) { return r, nil },
	}
	for name, reader := range unpack {
		address, next := udp(t)
		s, _ := sender(t, "gelf", map[string]string{"gelf-address": "udp://" + address, "gelf-compression-type": name, "labels": "tier,none", "env-regex": "^(COLOUR|_P)"})
		send(t, s, "", "error <1>")
		r, err := reader(bytes.NewReader(next()))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.NewDecoder(r).Decode(&got); err != nil {
			t.Fatal(err)
		}
		host, _ := os.Hostname()
		for key, want := range map[string]any{
			"version": "1.1", "host": host, "short_message": "error <1>", "timestamp": 1772600767.891, "level": 3.0, "_container_id": facts().ID, "_container_name": "web",
			"_image_id": "sha256:abcdef0123", "_image_name": "busybox:1", "_command": "/bin/sh -c true", "_tag": "0123456789ab", "_created": "2026-03-04T05:06:07.891234567Z",
			"_tier": "front", "_COLOUR": "red", "_PATH": "x",
		} {
			if got[key] != want {
				t.Errorf("%s: %s is %v, not %v", name, key, got[key], want)
			}
		}
	}
}

func TestGELFCutsLongMessagesIntoChunks(t *testing.T) {
	address, next := udp(t)
	s, _ := sender(t, "gelf", map[string]string{"gelf-address": "udp://" + address, "gelf-compression-type": "none"})
	long := strings.Repeat("0123456789", 1600)
	send(t, s, long)
	first := next()
	count := int(first[11])
	whole := make([][]byte, count)
	for i, chunk := 0, first; ; chunk = next() {
		if string(chunk[:2]) != "\x1e\x0f" || !bytes.Equal(chunk[2:10], first[2:10]) || int(chunk[11]) != count || len(chunk) > 1420 {
			t.Fatalf("chunk with the header %x of %d bytes", chunk[:12], len(chunk))
		}
		whole[chunk[10]] = chunk[12:]
		if i++; i == count {
			break
		}
	}
	var got map[string]any
	if err := json.Unmarshal(bytes.Join(whole, nil), &got); err != nil || got["short_message"] != long {
		t.Errorf("%v: %d chunks", err, count)
	}
	if err := s.Send(t.Context(), Message{Text: bytes.Repeat([]byte("x"), 200_000), Time: at()}); !errors.Is(err, ErrRejected) {
		t.Errorf("a message beyond 128 chunks: %v", err)
	}
}

func TestFluentdMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fluentd")
	for _, tc := range []struct {
		network, on string
		subSecond   bool
	}{{"tcp", "127.0.0.1:0", false}, {"unix", path, true}} {
		address, accept := stream(t, tc.network, tc.on)
		s, policy := sender(t, "fluentd", map[string]string{
			"fluentd-address": tc.network + "://" + address, "fluentd-sub-second-precision": fmt.Sprint(tc.subSecond), "tag": "docker.{{.Name}}", "env": "COLOUR",
		})
		if !policy.Waits || policy.Async {
			t.Errorf("policy %+v", policy)
		}
		send(t, s, "error")
		r := accept()
		if head, err := r.ReadByte(); err != nil || head != 0x94 {
			t.Fatalf("%x, %v", head, err)
		}
		if tag, err := readString(r.Reader); tag != "docker.web" {
			t.Errorf("tag %q, %v", tag, err)
		}
		when := make([]byte, 9)
		if tc.subSecond {
			when = append(when, 0)
		}
		if _, err := io.ReadFull(r, when); err != nil {
			t.Fatal(err)
		}
		if tc.subSecond && (when[0] != 0xd7 || binary.BigEndian.Uint32(when[2:]) != uint32(at().Unix()) || binary.BigEndian.Uint32(when[6:]) != uint32(at().Nanosecond())) ||
			!tc.subSecond && (when[0] != 0xd3 || binary.BigEndian.Uint64(when[1:]) != uint64(at().Unix())) {
			t.Errorf("time %x", when)
		}
		got, err := readMap(r.Reader)
		if fmt.Sprint(got) != fmt.Sprintf("map[COLOUR:red container_id:%s container_name:/web log:error source:stderr]", facts().ID) {
			t.Errorf("record %v, %v", got, err)
		}
		if option, err := readMap(r.Reader); err != nil || len(option) != 0 {
			t.Errorf("options %v, %v", option, err)
		}
	}
}

func TestFluentdAcknowledges(t *testing.T) {
	address, accept := stream(t, "tcp", "127.0.0.1:0")
	s, _ := sender(t, "fluentd", map[string]string{"fluentd-address": address, "fluentd-request-ack": "true"})
	answered := make(chan error, 1)
	go func() {
		r := accept()
		skip := make([]byte, 1+1+12+9) // the array, the tag, the time
		_, err := io.ReadFull(r, skip)
		record, err2 := readMap(r.Reader)
		option, err3 := readMap(r.Reader)
		if record["log"] != "hello" || option["chunk"] == "" {
			err = fmt.Errorf("%v, %v", record, option)
		}
		_, err4 := r.Write(appendMap(nil, map[string]string{"ack": option["chunk"]}))
		answered <- errors.Join(err, err2, err3, err4, r.Flush())
	}()
	send(t, s, "hello")
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestJournalEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if _, err := newJournald(path, nil, facts()); err == nil || err.Error() != "journald is not enabled on this host" {
		t.Errorf("without a journal: %v", err)
	}
	_, next := listenPacket(t, "unixgram", path)
	s, err := newJournald(path, map[string]string{"labels-regex": "^com", "env": "_PATH"}, facts())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	parts := &Parts{}
	if err := s.Send(t.Context(), Message{Text: []byte("two\nlines"), Stderr: true, Time: at(), Partial: parts.Next(false)}); err != nil {
		t.Fatal(err)
	}
	got := string(next())
	for _, want := range []string{
		"MESSAGE\n\x09\x00\x00\x00\x00\x00\x00\x00two\nlines\n", "PRIORITY=3\n", "CONTAINER_ID=0123456789ab\n", "CONTAINER_ID_FULL=" + facts().ID + "\n", "CONTAINER_NAME=web\n",
		"CONTAINER_TAG=0123456789ab\n", "SYSLOG_IDENTIFIER=0123456789ab\n", "IMAGE_NAME=busybox:1\n", "COM_EXAMPLE_TEAM=a\n", "PATH=x\n", "CONTAINER_LOG_ORDINAL=1\n",
		"SYSLOG_TIMESTAMP=2026-03-04T05:06:07.891234567Z\n", "CONTAINER_PARTIAL_MESSAGE=true\n", "CONTAINER_PARTIAL_ORDINAL=1\n", "CONTAINER_PARTIAL_LAST=false\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	last := parts.Next(true)
	if last == nil || !last.Last || last.Ordinal != 2 || parts.Next(true) != nil {
		t.Errorf("parts: %+v", last)
	}
}

// The texts are dockerd's.
func TestOptionsAreRefusedInDockersWords(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options string // "key=value key=value"
		want    string // "" for good ones
	}{
		{"x", "", `error looking up logging plugin x: plugin "x" not found`},
		{"none", "any=thing", ""},
		{"json-file", "a=b", "unknown log opt 'a' for json-file log driver"},
		{"json-file", "max-size=what labels=a tag=b mode=non-blocking max-buffer-size=4m cache-disabled=true", ""},
		{"json-file", "mode=x", "logger: logging mode not supported: x"},
		{"json-file", "max-buffer-size=4m", "logger: max-buffer-size option is only supported with 'mode=non-blocking'"},
		{"json-file", "mode=non-blocking max-buffer-size=x", "error parsing option max-buffer-size: invalid size: 'x'"},
		{"local", "labels=a", "unknown log opt 'labels' for log driver local"},
		{"journald", "max-size=1m", "unknown log opt 'max-size' for journald log driver"},
		{"syslog", "cache-disabled=maybe", "invalid value for option cache-disabled: maybe"},
		{"syslog", "x=1", "unknown log opt 'x' for syslog log driver"},
		{"syslog", "syslog-address=ftp://a", "unsupported scheme: 'ftp'"},
		{"syslog", "syslog-address=unix:///not/there", "stat /not/there: no such file or directory"},
		{"syslog", "syslog-facility=local8", "invalid syslog facility"},
		{"syslog", "syslog-format=x", "Invalid syslog format"},
		{"fluentd", "fluentd-address=http://a", "invalid fluentd-address (http://a): unsupported scheme: 'http'"},
		{"fluentd", "fluentd-address=a/b", "invalid fluentd-address (a/b): should not contain a path element"},
		{"fluentd", "fluentd-address=unix://", "invalid fluentd-address (unix://): path is empty"},
		{"fluentd", "fluentd-max-retries=4294967295", "invalid fluentd-max-retries: value out of range"},
		{"fluentd", "fluentd-async-reconnect-interval=1m", `invalid value for fluentd-async-reconnect-interval: value ("1m0s") must be between 100ms and 10s`},
		{"fluentd", "fluentd-write-timeout=-1s", "invalid value for fluentd-write-timeout: value must be a duration that is non-negative"},
		{"fluentd", "x=1", "unknown log opt 'x' for fluentd log driver"},
		{"gelf", "", "gelf-address is a required parameter"},
		{"gelf", "gelf-address=http://a:1", "gelf: endpoint needs to be TCP or UDP"},
		{"gelf", "gelf-address=udp://a", "gelf: please provide gelf-address as proto://host:port"},
		{"gelf", "gelf-address=tcp://a:1 gelf-compression-type=gzip", "compression is only supported on UDP"},
		{"gelf", "gelf-address=udp://a:1 gelf-compression-level=10", `unknown value "10" for log opt "gelf-compression-level" for gelf log driver`},
		{"gelf", "gelf-address=udp://a:1 gelf-tcp-max-reconnect=1", `"gelf-tcp-max-reconnect" is only valid for TCP`},
		{"gelf", "gelf-address=tcp://a:1 gelf-tcp-reconnect-delay=x", `"gelf-tcp-reconnect-delay" must be a positive integer`},
		{"gelf", "gelf-address=udp://a:1 x=1", `unknown log opt "x" for gelf log driver`},
	} {
		options := map[string]string{}
		for o := range strings.FieldsSeq(tc.options) {
			key, value, _ := strings.Cut(o, "=")
			options[key] = value
		}
		got := ""
		if err := Validate(tc.name, options); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s %s: %q, not %q", tc.name, tc.options, got, tc.want)
		}
	}
}

func TestTags(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "0123456789ab",
		"{{.Name}}/{{.FullID}}":       "web/" + facts().ID,
		"{{.ImageID}}|{{.ImageName}}": "sha256:abcde|busybox:1",
		"{{upper .Command}} {{.DaemonName}} {{.ContainerName}}":                         "/BIN/SH -C TRUE docker /web",
		`{{(.ExtraAttributes nil).tier}} {{index .ContainerLabels "com.example.team"}}`: "front a",
		`{{json .ContainerEnv}} {{truncate .Name 2}} {{title .Name}} {{pad .Name 1 1}}`: `["COLOUR=red","EMPTY","_PATH=x"] we Web  web `,
	} {
		if got, err := Tag(facts(), map[string]string{"tag": text, "labels": "tier"}, defaultTag); err != nil || got != want {
			t.Errorf("%s: %q, %v, not %q", text, got, err, want)
		}
	}
	if _, err := Tag(facts(), map[string]string{"tag": "{{.Nothing}}"}, ""); err == nil {
		t.Error("an unknown field is an error")
	}
}
