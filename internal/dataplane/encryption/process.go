package encryption

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
)

// Process says how WireGuard is run where the kernel has none.
type Process struct {
	// Program is the path of a program that runs wireguard.Main when its first argument is wireguard.Word. Without it, encrypted networks fail on
	// such kernels.
	Program string
	// Dir is where the process has its socket and its log; all in it belongs to the data plane. It is made if it is missing.
	Dir string
}

// Socket is the path of the socket by which the process is controlled.
func (p Process) Socket() string { return filepath.Join(p.Dir, "wireguard.sock") }

func (p Process) logFile() string { return filepath.Join(p.Dir, "wireguard.log") }

// startTimeout bounds the wait for a new process's interface and socket. It is generous: the machine may be busy.
const startTimeout = 10 * time.Second

// startProcess starts the process in the node's namespace and waits until it can be controlled. It outlives the daemon.
func (d *Device) startProcess(want *config.WireGuard) error {
	if d.process.Program == "" {
		return errors.New("no WireGuard program is known")
	}
	if err := os.MkdirAll(d.process.Dir, 0o700); err != nil {
		return fmt.Errorf("make WireGuard directory: %w", err)
	}
	log, err := os.OpenFile(d.process.logFile(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open log of WireGuard process: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(d.process.Program, wireguard.Arguments(DeviceName, d.process.Socket(), want.MTU)...) // #nosec G204 -- our own program
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = d.process.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // signals to the daemon's session must not end it
	if err := d.node.Run(cmd.Start); err != nil {
		return fmt.Errorf("start WireGuard process: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // that it has ended is seen by its interface, which ends with it
		close(ended)
	}()
	return d.awaitProcess(ended)
}

func (d *Device) awaitProcess(ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		_, err := d.links.LinkByName(DeviceName)
		if err == nil {
			if _, err = wireguard.Process(d.process.Socket()).Handshakes(); err == nil {
				return nil
			}
		}
		select {
		case <-ended:
			output, _ := os.ReadFile(d.process.logFile())
			return fmt.Errorf("WireGuard process has ended: %s", output)
		case <-ctx.Done():
			return fmt.Errorf("wait for WireGuard process: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
