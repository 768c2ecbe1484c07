package shoal

type (
	// Secret is data that only the tasks which use it may see. The store seals Data and Previous.
	Secret = FileObject[SecretID]
	// Config is data for tasks that need not be kept secret.
	Config = FileObject[ConfigID]
)

// FileObject is a secret or a config: a small piece of named data that tasks see as a file.
type FileObject[ID SecretID | ConfigID] struct {
	ID ID
	Meta
	Name   string
	Labels map[string]string
	Data   []byte
	// Generation is how often Data has been replaced, and Previous the data before that; nil if it was never replaced. References name a
	// generation, so that it can be told which tasks have the old data, and a rollback brings it back.
	Generation uint64  `json:",omitempty"`
	Previous   []byte  `json:",omitempty"`
	Driver     *Driver // of a secret that is kept elsewhere; nil for one that the store has
	Templating *Driver // set if Data is a template
}

// DataOf is the data of a generation. Only the last two are kept; for any earlier one it is the present data.
func (o *FileObject[ID]) DataOf(generation uint64) []byte {
	if o.Previous != nil && generation+1 == o.Generation {
		return o.Previous
	}
	return o.Data
}

// Replace makes data the present data, as a new generation, and keeps what it replaces as Previous.
func (o *FileObject[ID]) Replace(data []byte) {
	o.Data, o.Previous = data, o.Data
	o.Generation++
}
