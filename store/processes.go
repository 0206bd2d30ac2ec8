package store

// Privileges are rows of the table privileges: privileges gained or used.
type Privileges struct {
	Identity
	Attribution
	Process
	Kind               []int8
	Capabilities       [][]string
	EffectiveUIDBefore []uint32
	EffectiveUID       []uint32
	Namespaces         [][]string
	Signal             []uint8
	Object             []string
}

// Table implements Rows.
func (r *Privileges) Table() string { return "privileges" }

// Len implements Rows.
func (r *Privileges) Len() int { return len(r.Sequence) }

// Reset implements Rows.
func (r *Privileges) Reset() {
	r.Identity.reset()
	r.Attribution.reset()
	r.Process.reset()
	r.Kind = r.Kind[:0]
	r.Capabilities = cut(r.Capabilities)
	r.EffectiveUIDBefore = r.EffectiveUIDBefore[:0]
	r.EffectiveUID = r.EffectiveUID[:0]
	r.Namespaces = cut(r.Namespaces)
	r.Signal = r.Signal[:0]
	r.Object = cut(r.Object)
}

// Columns implements Rows.
func (r *Privileges) Columns() []Column {
	return join(r.Identity.columns(), r.Attribution.columns(), r.Process.columns(), []Column{
		{"kind", "Int8", r.Kind},
		{"capabilities", "Array(String)", r.Capabilities},
		{"effective_uid_before", "UInt32", r.EffectiveUIDBefore},
		{"effective_uid", "UInt32", r.EffectiveUID},
		{"namespaces", "Array(String)", r.Namespaces},
		{"signal", "UInt8", r.Signal},
		{"object", "String", r.Object},
	})
}

// Executables are rows of the table executables: digests of programs.
type Executables struct {
	Identity
	Attribution
	Process
	Path   []string
	Inode  []uint64
	Device []uint32
	Size   []uint64
	SHA256 []string
}

// Table implements Rows.
func (r *Executables) Table() string { return "executables" }

// Len implements Rows.
func (r *Executables) Len() int { return len(r.Sequence) }

// Reset implements Rows.
func (r *Executables) Reset() {
	r.Identity.reset()
	r.Attribution.reset()
	r.Process.reset()
	r.Path = cut(r.Path)
	r.Inode = r.Inode[:0]
	r.Device = r.Device[:0]
	r.Size = r.Size[:0]
	r.SHA256 = cut(r.SHA256)
}

// Columns implements Rows.
func (r *Executables) Columns() []Column {
	return join(r.Identity.columns(), r.Attribution.columns(), r.Process.columns(), []Column{
		{"path", "String", r.Path},
		{"inode", "UInt64", r.Inode},
		{"device", "UInt32", r.Device},
		{"size", "UInt64", r.Size},
		{"sha256", "String", r.SHA256},
	})
}

// HTTPRequests are rows of the table http_requests: heads of HTTP requests.
type HTTPRequests struct {
	Identity
	Attribution
	Process
	Method  []string
	Host    []string
	Path    []string
	Version []string
	Library []int8
}

// Table implements Rows.
func (r *HTTPRequests) Table() string { return "http_requests" }

// Len implements Rows.
func (r *HTTPRequests) Len() int { return len(r.Sequence) }

// Reset implements Rows.
func (r *HTTPRequests) Reset() {
	r.Identity.reset()
	r.Attribution.reset()
	r.Process.reset()
	r.Method = cut(r.Method)
	r.Host = cut(r.Host)
	r.Path = cut(r.Path)
	r.Version = cut(r.Version)
	r.Library = r.Library[:0]
}

// Columns implements Rows.
func (r *HTTPRequests) Columns() []Column {
	return join(r.Identity.columns(), r.Attribution.columns(), r.Process.columns(), []Column{
		{"method", "String", r.Method},
		{"host", "String", r.Host},
		{"path", "String", r.Path},
		{"version", "String", r.Version},
		{"library", "Int8", r.Library},
	})
}
