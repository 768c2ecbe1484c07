package logs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/docker/go-units"

	"github.com/shoal-dev/shoal/internal/logs/driver"
)

// Options says where a log is written and when it is rotated.
type Options struct {
	Driver   string // "" is json-file
	MaxSize  int64  // bytes before a file is rotated; 0 for no limit
	MaxFile  int    // how many files are kept, the one that is written to among them; at least 1
	Compress bool   // files are packed once they were rotated
	Unread   bool   // what is in the files is only a buffer, which nobody can read
}

// What is kept of lines on the node, unless options say otherwise: Docker's figures for the driver local, which also keeps a copy for drivers that keep them elsewhere.
const (
	localSize  = 20 << 20
	localFiles = 5
)

// bufferSize is the size of the two files of a log that is only a buffer. It is much more than the lines that wait to be sent.
const bufferSize = 1 << 20

// remote reports whether a driver keeps lines elsewhere.
func remote(name string) bool {
	return name != "" && name != driver.None && name != driver.JSONFile && name != driver.Local
}

// ParseOptions reads the options of a log driver, which driver.Validate has found good. An error is what fails a start in Docker; what could be read then
// is still good for reading what was logged.
func ParseOptions(name string, options map[string]string) (Options, error) {
	if name == "" {
		name = driver.JSONFile
	}
	o := Options{Driver: name, MaxFile: 1}
	switch name {
	case driver.None:
		return o, nil
	case driver.JSONFile:
		err := o.parseJSONFile(options)
		return o, err
	case driver.Local:
		err := o.parseLocal(options["max-size"], options["max-file"], options["compress"])
		return o, err
	}
	if disabled, err := strconv.ParseBool(options["cache-disabled"]); err == nil && disabled {
		o.MaxSize, o.MaxFile, o.Unread = bufferSize, 2, true
		return o, nil
	}
	err := o.parseLocal(options["cache-max-size"], options["cache-max-file"], options["cache-compress"])
	o.MaxFile = max(o.MaxFile, 2) // a rotation must leave what waits to be sent
	return o, err
}

// parseJSONFile reads the options of json-file.
func (o *Options) parseJSONFile(options map[string]string) error {
	var err error
	if text, ok := options["max-size"]; ok {
		if o.MaxSize, err = units.FromHumanSize(text); err != nil {
			return err
		}
		if o.MaxSize <= 0 {
			o.MaxSize = 0
			return errors.New("max-size must be a positive number")
		}
	}
	if text, ok := options["max-file"]; ok {
		n, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		if n < 1 {
			return errors.New("max-file cannot be less than 1")
		}
		o.MaxFile = n
	}
	if text, ok := options["compress"]; ok {
		if o.Compress, err = strconv.ParseBool(text); err != nil {
			return err
		}
		if o.Compress && (o.MaxFile == 1 || o.MaxSize == 0) {
			o.Compress = false
			return errors.New("compress cannot be true when max-file is less than 2 or max-size is not set")
		}
	}
	return nil
}

// parseLocal reads the options of local; empty ones are its defaults.
func (o *Options) parseLocal(size, files, compress string) error {
	o.MaxSize, o.MaxFile, o.Compress = localSize, localFiles, true
	if size != "" {
		n, err := units.FromHumanSize(size)
		if err != nil {
			return fmt.Errorf("invalid value for max-size: %s: %w", size, err)
		}
		if n < 0 {
			return errors.New("max size should be a positive number")
		}
		o.MaxSize = n
	}
	var err error
	if compress != "" {
		if o.Compress, err = strconv.ParseBool(compress); err != nil {
			return fmt.Errorf("error reading compress log option: %w", err)
		}
	}
	if files == "" {
		return nil
	}
	n, err := strconv.Atoi(files)
	if err != nil {
		return fmt.Errorf("invalid value for max-file: %s: %w", files, err)
	}
	if n < 0 {
		return errors.New("max file count cannot be less than 0")
	}
	o.MaxFile = max(n, 1)
	if o.Compress && n <= 1 {
		o.Compress = false
		return errors.New("compression cannot be enabled when max file count is 1")
	}
	return nil
}

// Path is the path of a log's newest file in a container's directory.
func (o *Options) Path(dir, id string) string {
	if remote(o.Driver) {
		return filepath.Join(dir, "container-cached.log")
	}
	return filepath.Join(dir, id+"-json.log")
}
