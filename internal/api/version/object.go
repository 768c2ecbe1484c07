package version

import (
	"net/url"
	"slices"
)

// child is the object in a field of another one; an empty one that is part of nothing if there is none. Fields of nil can be read, not set.
func child(o object, name string) object {
	c, _ := o[name].(object)
	return c
}

// children is the objects in a list of another one.
func children(o object, name string) []object {
	list, _ := o[name].([]any)
	return objects(list)
}

// objects is the objects of a list.
func objects(list []any) []object {
	var out []object
	for _, e := range list {
		if c, ok := e.(object); ok {
			out = append(out, c)
		}
	}
	return out
}

// ensure is the object in a field of another one, made if there is none.
func ensure(o object, name string) object {
	if c, ok := o[name].(object); ok {
		return c
	}
	c := object{}
	o[name] = c
	return c
}

// text is the string in a field.
func text(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

// drop removes fields. It is Docker's way with what a client of that version cannot have meant.
func drop(o object, names ...string) {
	for _, name := range names {
		delete(o, name)
	}
}

// fill sets the fields that are absent, in objects within too, as an older version had them always.
func fill(o, fields object) {
	for name, value := range fields {
		if within, ok := value.(object); ok {
			if have, ok := o[name].(object); ok {
				fill(have, within)
				continue
			}
		}
		if have, ok := o[name]; !ok || have == nil {
			o[name] = value
		}
	}
}

// each is an Answer that changes an object, or every object of a list.
func each(change func(object)) func(any) any {
	return func(answer any) any {
		switch a := answer.(type) {
		case object:
			change(a)
		case []any:
			for _, o := range objects(a) {
				change(o)
			}
		}
		return answer
	}
}

// without is an Answer that removes fields.
func without(names ...string) func(any) any {
	return each(func(o object) { drop(o, names...) })
}

// with is an Answer that sets the fields that are absent.
func with(fields func() object) func(any) any {
	return each(func(o object) { fill(o, fields()) })
}

// ignore is a Query that removes parameters.
func ignore(names ...string) func(url.Values) {
	return func(q url.Values) {
		for _, name := range names {
			delete(q, name)
		}
	}
}

// ignoreFields is a Body that removes fields.
func ignoreFields(names ...string) func(*Body) error {
	return func(b *Body) error {
		drop(b.object, names...)
		return nil
	}
}

// both is a change of two endpoints that is the same for each.
func both(c Change, routes ...string) []Change {
	var out []Change
	for _, route := range routes {
		c.Route = route
		out = append(out, c)
	}
	return slices.Clip(out)
}
