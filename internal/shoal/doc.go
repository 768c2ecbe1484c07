// Package shoal is the vocabulary of the project: services, tasks, nodes, networks, endpoints, and the
// messages and settings that belong to them. It reads nothing and writes nothing; all other packages use its types.
package shoal
