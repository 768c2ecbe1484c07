package wireguard

import (
	"errors"
	"fmt"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Kernel is the kernel's interface of that name. within runs a function in the interface's network namespace. Nothing is opened until the Device is
// used.
func Kernel(name string, within func(func() error) error) Device {
	return Device{kernel{name, within}}
}

type kernel struct {
	name   string
	within func(func() error) error
}

func (k kernel) device() (have *wgtypes.Device, err error) {
	return have, k.do(func(c *wgctrl.Client) error {
		have, err = c.Device(k.name)
		return err
	})
}

func (k kernel) configure(changes wgtypes.Config) error {
	return k.do(func(c *wgctrl.Client) error { return c.ConfigureDevice(k.name, changes) })
}

func (k kernel) do(f func(*wgctrl.Client) error) error {
	err := k.within(func() error {
		c, err := wgctrl.New()
		if err != nil {
			return err
		}
		return errors.Join(f(c), c.Close())
	})
	if err != nil {
		return fmt.Errorf("ask the kernel for %s: %w", k.name, err)
	}
	return nil
}
