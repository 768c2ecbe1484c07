package wireguard

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// Word is the first argument that makes our binary a WireGuard process.
const Word = "wireguard"

// Arguments are the process's, Word first. mtu is in bytes.
func Arguments(name, socket string, mtu int) []string {
	return []string{Word, "-name", name, "-socket", socket, "-mtu", fmt.Sprint(mtu)}
}

// Main makes an interface in the network namespace that it is started in, and carries its packets until ctx ends or the interface is removed, neither of
// which is an error. The interface ends with the process. args are Arguments without Word.
func Main(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(Word, flag.ContinueOnError)
	name := flags.String("name", "", "the interface")
	path := flags.String("socket", "", "where it is controlled")
	mtu := flags.Int("mtu", device.DefaultMTU, "the interface's MTU")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := listen(*path)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	link, err := tun.CreateTUN(*name, *mtu)
	if err != nil {
		return fmt.Errorf("create interface %s: %w", *name, err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("interface", *name)
	dev := device.NewDevice(link, conn.NewDefaultBind(), &device.Logger{
		Verbosef: device.DiscardLogf,
		Errorf:   func(format string, args ...any) { log.Warn("WireGuard", "err", fmt.Sprintf(format, args...)) },
	})
	defer dev.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go dev.IpcHandle(c)
		}
	}()
	select {
	case <-ctx.Done():
	case <-dev.Wait():
	}
	return nil
}

// listen makes the socket, which only root can open, in place of one that an earlier process may have left.
func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // by then it may be that of the next process
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("make socket: %w", err), l.Close())
	}
	return l, nil
}
