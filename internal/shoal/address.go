package shoal

import "encoding"

// TextOf is the text of an address, prefix or port as it is in JSON. Unlike String, it is empty for a value that is not valid.
func TextOf(a encoding.TextMarshaler) string {
	text, err := a.MarshalText()
	if err != nil {
		return "" // netip's types have a text for every value
	}
	return string(text)
}
