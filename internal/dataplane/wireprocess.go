package dataplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
)

// WireGuardProcess says how WireGuard is run where the kernel has none.
type WireGuardProcess struct {
	// Program is a program that runs wireguard.Main when its first argument is wireguard.Word.
	Program string
	// Dir is where the process has its socket and its log; all in it belongs to this Plane.
	Dir string
}

func (w WireGuardProcess) socket() string { return filepath.Join(w.Dir, "wireguard.sock") }

// startLimit bounds the wait for a new process's interface and socket. It is generous: the machine may be busy.
const startLimit = 10 * time.Second

// startWire starts the process. It outlives this one.
func (p *Plane) startWire(w *Wire) error {
	if p.process.Program == "" {
		return errors.New("no WireGuard program is known")
	}
	if err := os.MkdirAll(p.process.Dir, 0o700); err != nil {
		return fmt.Errorf("make WireGuard directory: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(p.process.Dir, "wireguard.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open log of WireGuard process: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(p.process.Program, wireguard.Arguments(wireDevice, p.process.socket(), w.MTU)...) // #nosec G204 -- our own program
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = p.process.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends the daemon is not meant for it
	// A child is in the namespace of the thread that starts it.
	if err := p.InNode(cmd.Start); err != nil {
		return fmt.Errorf("start WireGuard process: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its end is seen by the interface's
		close(ended)
	}()
	return p.awaitWire(ended)
}

func (p *Plane) awaitWire(ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		_, err := p.node.LinkByName(wireDevice)
		if err == nil {
			if _, err = wireguard.Process(p.process.socket()).Handshakes(); err == nil {
				return nil
			}
		}
		select {
		case <-ended:
			said, _ := os.ReadFile(filepath.Join(p.process.Dir, "wireguard.log"))
			return fmt.Errorf("WireGuard process has ended: %s", said)
		case <-ctx.Done():
			return fmt.Errorf("wait for WireGuard process: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
