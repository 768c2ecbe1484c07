package logs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// positionSuffix ends the name of the file that has the position.
const positionSuffix = ".sent"

// position is the time of the last line that was sent, in a file that outlives the daemon. It is not flushed: after a loss of power lines are sent again.
type position struct{ file *os.File }

// openPosition opens the file and returns what it says, zero if nothing was sent.
func openPosition(path string) (*position, time.Time, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("open the position of what was sent: %w", err)
	}
	return &position{f}, readPosition(path), nil
}

// readPosition reads the position from its file, zero if there is none.
func readPosition(path string) time.Time {
	data, err := os.ReadFile(path)
	n, parseErr := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || parseErr != nil || n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// set notes the position. What cannot be noted is sent again.
func (p *position) set(at time.Time) {
	_, _ = p.file.WriteAt(fmt.Appendf(nil, "%020d\n", at.UnixNano()), 0)
}

// close closes the file.
func (p *position) close() { _ = p.file.Close() } // nothing is buffered
