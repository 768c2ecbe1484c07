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
	// Generation counts how often Data has been replaced; Previous is the data before the last time, nil if there was none. Tasks
	// refer to a generation, so that those which run keep their data while the service rolls.
	Generation uint64  `json:",omitempty"`
	Previous   []byte  `json:",omitempty"`
	Driver     *Driver // of an external store of secrets; nil: the cluster's
	Templating *Driver // nil: the data is used as it is
}

// DataOf is the data of a generation. Only the newest two generations are kept; for an older one, the newest is returned.
func (o *FileObject[ID]) DataOf(generation uint64) []byte {
	if o.Previous != nil && generation+1 == o.Generation {
		return o.Previous
	}
	return o.Data
}

// Replace sets the data and begins another generation.
func (o *FileObject[ID]) Replace(data []byte) {
	o.Data, o.Previous = data, o.Data
	o.Generation++
}
