package driver

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
)

// Modes of a log driver: what happens to the container when lines come faster than the driver takes them.
const (
	ModeBlocking    = "blocking"
	ModeNonBlocking = "non-blocking"
)

// None is the driver that keeps nothing; JSONFile and Local keep lines in files of the node, see package logs.
const (
	None     = "none"
	JSONFile = "json-file"
	Local    = "local"
)

// attributeOptions are the options of all drivers that tell something of the container with each line.
func attributeOptions() []string {
	return []string{"labels", "labels-regex", "env", "env-regex", "tag"}
}

// fileOptions are the options of files that are rotated.
func fileOptions() []string { return []string{"max-file", "max-size", "compress"} }

// Names is the log drivers that there are, sorted; None is not among them, as in Docker's lists.
func Names() []string {
	return []string{"fluentd", "gelf", "journald", JSONFile, Local, "syslog"}
}

// Validate refuses what Docker refuses when a container is made: unknown drivers, unknown options, and those values that it looks at then. The error is an
// invalid argument in Docker's words.
func Validate(name string, options map[string]string) error {
	if err := validate(name, options); err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	return nil
}

func validate(name string, options map[string]string) error {
	if name == None {
		return nil
	}
	if err := validateMode(options); err != nil {
		return err
	}
	if v := options["cache-disabled"]; v != "" {
		if _, err := strconv.ParseBool(v); err != nil {
			return fmt.Errorf("invalid value for option cache-disabled: %s", v)
		}
	}
	own := map[string]string{}
	for key, value := range options {
		switch key {
		case "mode", "max-buffer-size", "cache-disabled", "cache-max-file", "cache-max-size", "cache-compress":
		default:
			own[key] = value
		}
	}
	switch name {
	case "", JSONFile:
		return known(own, "unknown log opt '%s' for json-file log driver", append(attributeOptions(), fileOptions()...))
	case Local:
		return known(own, "unknown log opt '%s' for log driver local", fileOptions())
	case "journald":
		return known(own, "unknown log opt '%s' for journald log driver", attributeOptions())
	case "syslog":
		return validateSyslog(own)
	case "fluentd":
		return validateFluentd(own)
	case "gelf":
		return validateGELF(own)
	}
	return fmt.Errorf("error looking up logging plugin %s: plugin %q not found", name, name)
}

// validateMode checks the options that every driver has.
func validateMode(options map[string]string) error {
	mode := options["mode"]
	switch mode {
	case "", ModeBlocking, ModeNonBlocking:
	default:
		return fmt.Errorf("logger: logging mode not supported: %s", mode)
	}
	size, ok := options["max-buffer-size"]
	if !ok {
		return nil
	}
	if mode != ModeNonBlocking {
		return errors.New("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
	}
	if _, err := units.RAMInBytes(size); err != nil {
		return fmt.Errorf("error parsing option max-buffer-size: %w", err)
	}
	return nil
}

// known refuses options that are not in a list, with a message that has a place for the option.
func known(options map[string]string, message string, list []string) error {
	for key := range options {
		if !slices.Contains(list, key) {
			return fmt.Errorf(message, key)
		}
	}
	return nil
}
