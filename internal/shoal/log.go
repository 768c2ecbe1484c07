package shoal

import "time"

// LogQuery asks for the logs of tasks.
type LogQuery struct {
	TaskIDs []TaskID
	Follow  bool
	Tail    int // lines per task; -1: all
	Since   time.Time
	Stdout  bool
	Stderr  bool
}

// LogLine is one line of a task's output with its newline, or a piece of a very long line.
type LogLine struct {
	TaskID TaskID
	NodeID NodeID
	Time   time.Time
	Stderr bool              `json:",omitempty"`
	Data   []byte            `json:",omitempty"`
	Attrs  map[string]string `json:",omitempty"`
	// Err says why there are no lines; the other fields but TaskID and NodeID are then empty.
	Err string `json:",omitempty"`
}
