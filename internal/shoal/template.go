package shoal

import (
	"fmt"
	"strings"
	"text/template"
)

// TemplateFacts is what a template in a spec may refer to: {{.Service.Name}}, {{.Task.Slot}}, {{.Node.Hostname}} …
type TemplateFacts struct {
	Service struct {
		ID, Name string
		Labels   map[string]string
	}
	Node struct {
		ID, Hostname string
		Platform     struct{ Architecture, OS string }
	}
	Task struct{ ID, Name, Slot string }
}

// Expand expands Docker's templates in a text. An unknown field is an error.
func (f TemplateFacts) Expand(text string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := template.New("").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("expand %q: %w", text, err)
	}
	var out strings.Builder
	if err := t.Execute(&out, f); err != nil {
		return "", fmt.Errorf("expand %q: %w", text, err)
	}
	return out.String(), nil
}
