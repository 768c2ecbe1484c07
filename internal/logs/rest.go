package logs

import "os"

// rest keeps the start of a line whose end was not printed yet, for the next daemon if this one is killed.
type rest struct {
	path string   // "" for nowhere
	file *os.File // nil before there is something to keep
	size int
}

// load is what an earlier daemon has kept.
func (r *rest) load() []byte {
	if r.path == "" {
		return nil
	}
	data, err := os.ReadFile(r.path)
	if err != nil || len(data) == 0 {
		return nil
	}
	r.size = len(data)
	return data
}

// set keeps the start of a line in place of the one before. What cannot be kept is lost only with the daemon.
func (r *rest) set(line []byte) {
	if r.path == "" || len(line) == 0 && r.size == 0 {
		return
	}
	if r.file == nil {
		f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return
		}
		r.file = f
	}
	if len(line) < r.size {
		_ = r.file.Truncate(0)
	}
	_, _ = r.file.WriteAt(line, 0)
	r.size = len(line)
}

// close closes the file. What it has is kept.
func (r *rest) close() {
	if r.file != nil {
		_ = r.file.Close() // nothing is buffered
		r.file = nil
	}
}
