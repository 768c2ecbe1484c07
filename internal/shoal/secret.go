package shoal

type (
	// Secret is data that only the tasks which use it may see. Data and Previous are sealed before they are stored.
	Secret = FileObject[SecretID]
	// Config is data for tasks that need not be kept secret.
	Config = FileObject[ConfigID]
)

// FileObject is a small piece of named data that tasks see as a file.
type FileObject[ID SecretID | ConfigID] struct {
	ID ID
	Meta
	Name   string
	Labels map[string]string
	Data   []byte
	// Generation is how often Data has been replaced, and Previous what it replaced last: tasks refer to a generation.
	Generation uint64 `json:",omitempty"`
	Previous   []byte `json:",omitempty"`
	Driver     *Driver
	Templating *Driver
}

// DataOf is the data of a generation. Only the newest two are kept: for any earlier one it is that of the newest.
func (o *FileObject[ID]) DataOf(generation uint64) []byte {
	if o.Previous != nil && generation+1 == o.Generation {
		return o.Previous
	}
	return o.Data
}

// Replace begins another generation.
func (o *FileObject[ID]) Replace(data []byte) {
	o.Data, o.Previous = data, o.Data
	o.Generation++
}
