package net

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"text/tabwriter"
	"time"
)

const (
	rateRounds = 7
	rateLength = 300 * time.Millisecond
	sinkPort   = 81
	sinkOffset = 1000 // from a task's published port to that of its sink
)

// sink takes in whatever comes by TCP and counts datagrams.
type sink struct {
	datagrams chan uint64 // asked for with a send, answered with how many have come
}

func newSink(b *testing.B, enter func(func() error) error) *sink {
	b.Helper()
	var stream net.Listener
	var packets net.PacketConn
	err := enter(func() (err error) {
		if stream, err = net.Listen("tcp", fmt.Sprint(":", sinkPort)); err == nil {
			packets, err = net.ListenPacket("udp4", fmt.Sprint(":", sinkPort))
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = stream.Close(), packets.Close() })
	go func() {
		for {
			conn, err := stream.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 1<<20))
				_, _ = conn.Write([]byte{1}) // all has come
				_ = conn.Close()
			}()
		}
	}()
	s := &sink{make(chan uint64)}
	go func() {
		count, buf := uint64(0), make([]byte, 2048)
		for {
			select {
			case <-s.datagrams:
				s.datagrams <- count
			default:
			}
			_ = packets.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
			if _, _, err := packets.ReadFrom(buf); err == nil {
				count++
			} else if errors.Is(err, net.ErrClosed) {
				return
			}
		}
	}()
	return s
}

func (s *sink) received() uint64 {
	s.datagrams <- 0
	return <-s.datagrams
}

// line is a way whose rates are measured.
type line struct {
	name, against string
	enter         func(func() error) error
	to            netip.AddrPort
	sink          *sink
	bytes, pps    []float64
}

// BenchmarkRates prints how much goes over the ways between two containers: bytes per second by TCP, as iperf3 would tell, and small
// datagrams that arrive per second.
func BenchmarkRates(b *testing.B) {
	s := newBench(b)
	s.push()
	far := s.task("far", 1, 10, 8080)
	near := s.task("near", 0, 11, 8081)
	caller := s.task("caller", 0, 12, 8082)
	s.push()
	veth, bare, end := s.pair()
	yard := s.bareVXLAN()
	at := func(text string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(text), sinkPort) }
	toBare, toYard, toFar := newSink(b, end.Do), newSink(b, yard.far), newSink(b, far)
	lines := []*line{
		{name: "bare veth", enter: veth.Do, to: at(bare.Addr().String()), sink: toBare},
		{name: "bare VXLAN", against: "bare veth", enter: yard.near.Do, to: at(yard.to.Addr().String()), sink: toYard},
		{name: "overlay, same node", against: "bare veth", enter: caller, to: at("10.0.1.11"), sink: newSink(b, near)},
		{name: "overlay, other node", against: "bare VXLAN", enter: caller, to: at("10.0.1.10"), sink: toFar},
		{name: "bare VXLAN from outside", enter: s.client.Do, to: at(yard.to.Addr().String()), sink: toYard},
		{name: "ingress from outside, remote task", against: "bare VXLAN from outside", enter: s.client.Do,
			to: netip.AddrPortFrom(netip.MustParseAddr("10.77.0.11"), 8080+sinkOffset), sink: toFar},
	}
	for b.Loop() {
		for range rateRounds {
			for _, l := range lines {
				l.measure(b)
			}
		}
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "\npath\tTCP\tof compared\tUDP, 64 bytes\tof compared\tcompared with")
	byName := map[string]*line{}
	for _, l := range lines {
		byName[l.name] = l
		bytes, packets := "", ""
		if base := byName[l.against]; base != nil {
			bytes, packets = quotient(l.bytes, base.bytes), quotient(l.pps, base.pps)
		}
		_, _ = fmt.Fprintf(out, "%s\t%.2f Gbit/s\t%s\t%.0f k/s\t%s\t%s\n", l.name, mid(l.bytes)*8/1e9, bytes, mid(l.pps)/1000, packets, l.against)
	}
	if err := out.Flush(); err != nil {
		b.Error(err)
	}
}

func (l *line) measure(b *testing.B) {
	b.Helper()
	err := l.enter(func() error {
		bytes, err := stream(l.to)
		if err != nil {
			return err
		}
		l.bytes = append(l.bytes, bytes)
		before := l.sink.received()
		took, err := flood(l.to)
		l.pps = append(l.pps, float64(l.sink.received()-before)/took.Seconds())
		return err
	})
	if err != nil {
		b.Fatalf("%s: %v", l.name, err)
	}
}

// stream is how many bytes per second a connection takes.
func stream(to netip.AddrPort) (float64, error) {
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	buf, sent, began := make([]byte, 256<<10), 0, time.Now()
	for time.Since(began) < rateLength {
		n, err := conn.Write(buf)
		if err != nil {
			return 0, err
		}
		sent += n
	}
	if err := conn.CloseWrite(); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(conn, buf[:1]); err != nil {
		return 0, err
	}
	return float64(sent) / time.Since(began).Seconds(), nil
}

// flood sends small datagrams as fast as it can.
func flood(to netip.AddrPort) (time.Duration, error) {
	runtime.LockOSThread()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	buf, began := make([]byte, 64), time.Now()
	for time.Since(began) < rateLength {
		_, _ = conn.Write(buf) // what does not fit is lost, and not counted
	}
	return time.Since(began), nil
}

func mid(list []float64) float64 {
	durations := make([]time.Duration, len(list))
	for i, v := range list {
		durations[i] = time.Duration(v)
	}
	return float64(median(durations))
}

// quotient is the median of the rounds' own ratios.
func quotient(list, base []float64) string {
	const scale = 1e6
	ratios := make([]float64, len(list))
	for i := range list {
		ratios[i] = list[i] / base[i] * scale
	}
	return fmt.Sprintf("%.2f", mid(ratios)/scale)
}
