package driver

import (
	"bytes"
	"encoding/json"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"
)

// newTemplate parses a template with the functions that Docker's templates have.
func newTemplate(name, text string) (*template.Template, error) {
	return template.New(name).Funcs(template.FuncMap{
		"json": toJSON, "split": strings.Split, "join": strings.Join, "title": title, "lower": strings.ToLower, "upper": strings.ToUpper,
		"pad":      func(text string, before, after int) string { return pad(text, before, after) },
		"truncate": func(text string, length int) string { return text[:max(0, min(length, len(text)))] },
	}).Parse(text)
}

// toJSON encodes a value without escapes for HTML.
func toJSON(v any) (string, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSpace(buf.String()), err
}

// title begins a text with a capital letter.
func title(text string) string {
	r, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return text
	}
	return string(unicode.ToTitle(r)) + text[size:]
}

// maxPadding bounds what a template can ask for.
const maxPadding = 1 << 10

// pad puts spaces around a text that is not empty.
func pad(text string, before, after int) string {
	if text == "" {
		return text
	}
	limit := func(n int) int { return max(0, min(n, maxPadding)) }
	return strings.Repeat(" ", limit(before)) + text + strings.Repeat(" ", limit(after))
}
