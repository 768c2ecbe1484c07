package vm

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// console runs commands in a machine, one after the other, by its second serial port. guest/console.sh is its other end.
type console struct {
	mu      sync.Mutex // guards what follows
	conn    net.Conn
	answers *bufio.Reader
	last    int
}

// connect opens the port and waits until the machine answers there. ended is closed if there is no machine any more.
func (c *console) connect(ctx context.Context, socket string, ended <-chan struct{}) error {
	pause := func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return errors.New("qemu has ended")
		case <-time.After(100 * time.Millisecond):
			return nil
		}
	}
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			c.mu.Lock()
			c.conn, c.answers = conn, bufio.NewReader(conn)
			c.mu.Unlock()
			break
		}
		if err := pause(); err != nil {
			return fmt.Errorf("connect to the machine: %w", err)
		}
	}
	// Before the machine listens, questions are lost. Once it does it may be slow, and must not be asked faster than it can answer.
	const longest = time.Minute
	for patience := 2 * time.Second; ; patience = min(patience*3/2, longest) {
		if _, err := c.run(ctx, patience, "true"); err == nil {
			return nil
		}
		if err := pause(); err != nil {
			return fmt.Errorf("the machine takes no commands: %w", err)
		}
	}
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// run runs a shell command and returns its output. One that fails is an error with the output.
func (c *console) run(ctx context.Context, patience time.Duration, command string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return "", errors.New("the machine is off")
	}
	deadline := time.Now().Add(patience)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	c.last++
	id := strconv.Itoa(c.last)
	if _, err := fmt.Fprintf(c.conn, "%s %s\n", id, base64.StdEncoding.EncodeToString([]byte(command))); err != nil {
		return "", err
	}
	for {
		line, err := c.answers.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("%s: no answer: %w", command, err)
		}
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != id {
			continue // to a question that was given up
		}
		out, err := base64.StdEncoding.DecodeString(strings.Join(fields[2:], ""))
		text := strings.TrimSpace(string(out))
		if err == nil && fields[1] != "0" {
			err = fmt.Errorf("%s: exit code %s: %s", command, fields[1], text)
		}
		return text, err
	}
}
