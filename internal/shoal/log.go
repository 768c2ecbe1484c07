package shoal

import "time"

// LogQuery says which log lines of which tasks are wanted.
type LogQuery struct {
	TaskIDs []TaskID
	Follow  bool      // go on with lines as they are written
	Tail    int       // the last lines of each task; -1 means all
	Since   time.Time // only lines from then on; zero means all
	Stdout  bool
	Stderr  bool
}

// LogLine is one line of a task's output with its newline, or a part of a line that is too long.
type LogLine struct {
	TaskID TaskID
	NodeID NodeID
	Time   time.Time
	Stderr bool              `json:",omitempty"`
	Data   []byte            `json:",omitempty"`
	Attrs  map[string]string `json:",omitempty"` // what --log-opt labels and env add to each line
	// Err says why no lines came from the node, or the task if TaskID is set. Then there is no Data.
	Err string `json:",omitempty"`
}
