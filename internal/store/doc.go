// Package store keeps the state of the cluster: it commits changes to a replicated backend and serves reads from an
// indexed snapshot in memory, which a watch on the backend keeps current. It reads and writes the backend's keys below
// /shoal/ and nothing else. Objects are handed out as pointers and are immutable: copy one before changing it.
package store
