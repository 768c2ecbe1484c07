package version

import (
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// object is a JSON object.
type object = map[string]any

// Change is what one API version changed of one endpoint. Every function may be nil.
type Change struct {
	// Since is the first API version that has the change.
	Since string
	// Route is a method and a path, such as "GET /containers/{id}/json". {id} is one segment, {name...} any number of them.
	Route string
	// What is a sentence for docs/api-versions.md.
	What string
	// Query changes the parameters of an older client's request into those that mean the same since.
	Query func(url.Values)
	// Body changes the JSON body of an older client's request likewise, or refuses it.
	Body func(*Body) error
	// Answer changes the JSON of an answer, a whole one or one of a stream, into what older clients expect. Nil is not sent.
	Answer func(answer any) any
}

// Body is the JSON body of a request, and what its client is warned of.
type Body struct {
	object
	Warnings []string
}

// route is a Change whose Route has been compiled.
type route struct {
	Change
	method string
	path   *regexp.Regexp
}

// Table is all changes, oldest first.
type Table struct{ routes []route }

// NewTable returns the changes of all versions.
func NewTable() *Table {
	t := &Table{}
	wildcard := regexp.MustCompile(`\\\{\w+(\\\.\\\.\\\.)?\\\}`)
	for _, c := range Changes() {
		method, pattern, _ := strings.Cut(c.Route, " ")
		expression := wildcard.ReplaceAllStringFunc(regexp.QuoteMeta(pattern), func(w string) string {
			if strings.Contains(w, ".") {
				return ".+"
			}
			return "[^/]+"
		})
		t.routes = append(t.routes, route{c, method, regexp.MustCompile("^" + expression + "$")})
	}
	return t
}

// Changes lists the changes of all versions, oldest first.
func Changes() []Change {
	return slices.Concat(changes125(), changes130(), changes132(), changes137(), changes139(), changes140(), changes141(), changes142(), changes143(), changes144(), changes145(), changes146(),
		changes147(), changes148(), changes149(), changes150(), changes151(), changes152(), changes154(), changes155())
}

// Conversion is the changes between a client's version and the newest, of one endpoint.
type Conversion struct{ changes []Change }

// Conversion returns what has to be converted of a request and its answer; nil if nothing has.
func (t *Table) Conversion(v, method, path string) *Conversion {
	if v == Max {
		return nil
	}
	c := &Conversion{}
	for _, r := range t.routes {
		if r.method == method && Older(v, r.Since) && r.path.MatchString(path) {
			c.changes = append(c.changes, r.Change)
		}
	}
	if len(c.changes) == 0 {
		return nil
	}
	return c
}

// Query converts the parameters of a request.
func (c *Conversion) Query(q url.Values) {
	for _, change := range c.changes {
		if change.Query != nil {
			change.Query(q)
		}
	}
}

// ReadsBody tells whether the body of the request has to be converted.
func (c *Conversion) ReadsBody() bool {
	return slices.ContainsFunc(c.changes, func(change Change) bool { return change.Body != nil })
}

// Body converts the JSON body of a request and returns what its client is to be warned of. What is no JSON object stays as it is, for the resource to refuse.
func (c *Conversion) Body(text []byte) (converted []byte, warnings []string, err error) {
	tree := object{}
	if decode(text, &tree) != nil || tree == nil {
		return text, nil, nil
	}
	body := &Body{object: tree}
	for _, change := range c.changes {
		if change.Body == nil {
			continue
		}
		if err := change.Body(body); err != nil {
			return nil, nil, err
		}
	}
	converted, err = json.Marshal(body.object)
	return converted, body.Warnings, err
}

// Answer converts an answer, or a part of a stream. If it is not to be sent, send is false.
func (c *Conversion) Answer(answer any) (converted any, send bool, err error) {
	if !slices.ContainsFunc(c.changes, func(change Change) bool { return change.Answer != nil }) {
		return answer, true, nil
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, false, err
	}
	if err := decode(text, &converted); err != nil {
		return nil, false, err
	}
	for _, change := range slices.Backward(c.changes) {
		if change.Answer == nil {
			continue
		}
		if converted = change.Answer(converted); converted == nil {
			return nil, false, nil
		}
	}
	return converted, true, nil
}

// decode keeps numbers as they are written.
func decode(text []byte, v any) error {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("content after JSON")
	}
	return nil
}

// refusal is an error with status 400.
type refusal string

func (r refusal) Error() string { return string(r) }

// InvalidParameter makes the error one of errdefs' invalid arguments.
func (r refusal) InvalidParameter() {}
