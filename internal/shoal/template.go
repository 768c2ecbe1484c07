package shoal

import (
	"fmt"
	"strings"
	"text/template"
)

// TemplateFacts is what templates in a spec can refer to: {{.Service.Name}}, {{.Task.Slot}}, {{.Node.Hostname}} and so on.
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

// Expand fills in Docker's templates in a text. An error means that the text is no valid template, or refers to something else.
func (f TemplateFacts) Expand(text string) (string, error) { return f.ExpandWith(text, nil) }

// ExpandWith is Expand for a text that may also call functions: {{secret "target"}}, {{config "target"}} and {{env "NAME"}} in the data of secrets and
// configs.
func (f TemplateFacts) ExpandWith(text string, functions map[string]func(string) (string, error)) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	funcs := template.FuncMap{}
	for name, function := range functions {
		funcs[name] = function
	}
	t, err := template.New("").Option("missingkey=error").Funcs(funcs).Parse(text)
	if err != nil {
		return "", fmt.Errorf("expand %q: %w", text, err)
	}
	var out strings.Builder
	if err := t.Execute(&out, f); err != nil {
		return "", fmt.Errorf("expand %q: %w", text, err)
	}
	return out.String(), nil
}
