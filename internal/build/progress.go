package build

import (
	"regexp"
	"strings"

	controlapi "github.com/moby/buildkit/api/services/control"
	"google.golang.org/protobuf/proto"
)

// Progress is a piece of news of a build, in two forms.
type Progress struct {
	Trace []byte // as BuildKit's clients read it: an encoded StatusResponse
	Text  string // as people read it: the steps and what they print; may be empty
}

// stepName is BuildKit's name of an instruction's step: "[build 2/3] RUN make".
var stepName = regexp.MustCompile(`(?s)^\[(?:\S+ )?(\d+/\d+)\] (.*)$`)

const stderr = 2 // the stream of a step's output that is for errors

// Control sequences of terminals that the classic builder puts around what a step prints there.
const red, plain = "\x1b[91m", "\x1b[0m"

// narrator turns BuildKit's news into text, as the classic builder's clients expect it: "Step 2/3 : RUN make", then the output.
type narrator struct {
	steps  map[string]bool // by the digests of the vertices: which are instructions
	cached map[string]bool // said so already
}

func newNarrator() *narrator { return &narrator{map[string]bool{}, map[string]bool{}} }

func (n *narrator) progress(part *controlapi.StatusResponse) (Progress, error) {
	trace, err := proto.Marshal(part)
	if err != nil {
		return Progress{}, err
	}
	var text strings.Builder
	for _, v := range part.Vertexes {
		m := stepName.FindStringSubmatch(v.Name)
		if m == nil || v.Started == nil && !v.Cached {
			continue
		}
		if !n.steps[v.Digest] {
			n.steps[v.Digest] = true
			_, _ = text.WriteString("Step " + m[1] + " : " + m[2] + "\n")
		}
		if v.Cached && !n.cached[v.Digest] {
			n.cached[v.Digest] = true
			_, _ = text.WriteString(" ---> Using cache\n")
		}
	}
	for _, l := range part.Logs {
		switch {
		case !n.steps[l.Vertex]:
		case l.Stream == stderr:
			_, _ = text.WriteString(red + string(l.Msg) + plain)
		default:
			_, _ = text.Write(l.Msg)
		}
	}
	return Progress{Trace: trace, Text: text.String()}, nil
}
