// Package shoal is the vocabulary of the project: services, tasks, nodes, networks, endpoints and what is promised about
// them. It reads nothing and writes nothing; every other room speaks in its types.
package shoal
