package shoal

import "encoding"

// TextOf is the text of an address or prefix as it is in JSON: empty for one that is not valid, of which String makes "invalid IP".
func TextOf(a encoding.TextMarshaler) string {
	text, err := a.MarshalText()
	if err != nil {
		return "" // netip's types have a text for every value
	}
	return string(text)
}
