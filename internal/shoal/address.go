package shoal

import "encoding"

// TextOf is the text of an address or prefix of package netip, as JSON has it. For the zero value it is empty, where String would be
// "invalid IP".
func TextOf(a encoding.TextMarshaler) string {
	text, err := a.MarshalText()
	if err != nil {
		return "" // netip's types have a text for every value
	}
	return string(text)
}
