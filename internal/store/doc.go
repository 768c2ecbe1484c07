// Package store keeps the state of the cluster: it commits changes to a replicated backend, and serves reads from an indexed snapshot in memory
// that follows the backend. It reads and writes the backend's keys below /shoal/ and nothing else. The objects that it returns are shared and
// immutable: copy one before changing it.
package store
