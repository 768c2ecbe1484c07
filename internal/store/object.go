package store

import (
	"fmt"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Kind names a kind of stored object, as it is written in its key.
type Kind string

// Kinds of stored objects.
const (
	KindCluster Kind = "cluster"
	KindConfig  Kind = "config"
	KindNetwork Kind = "network"
	KindNode    Kind = "node"
	KindSecret  Kind = "secret"
	KindService Kind = "service"
	KindTask    Kind = "task"
)

// Object is a stored object: a pointer to a shoal.Cluster, Config, Network, Node, Secret, Service or Task.
type Object interface {
	// ObjectID is the object's ID as text.
	ObjectID() string
	// Head is the part that the store sets.
	Head() *shoal.Meta
}

// KindOf tells the kind of an object; it is empty for a type that is not stored.
func KindOf(o Object) Kind {
	switch o.(type) {
	case *shoal.Cluster:
		return KindCluster
	case *shoal.Config:
		return KindConfig
	case *shoal.Network:
		return KindNetwork
	case *shoal.Node:
		return KindNode
	case *shoal.Secret:
		return KindSecret
	case *shoal.Service:
		return KindService
	case *shoal.Task:
		return KindTask
	}
	return ""
}

// nameOf is the name that no second object of the kind may have; empty where names need not be unique.
func nameOf(o Object) string {
	switch o := o.(type) {
	case *shoal.Cluster:
		return o.Spec.Name
	case *shoal.Config:
		return o.Name
	case *shoal.Network:
		return o.Spec.Name
	case *shoal.Secret:
		return o.Name
	case *shoal.Service:
		return o.Spec.Name
	}
	return ""
}

// newObject returns an empty object of a kind.
func newObject(k Kind) (Object, error) {
	switch k {
	case KindCluster:
		return &shoal.Cluster{}, nil
	case KindConfig:
		return &shoal.Config{}, nil
	case KindNetwork:
		return &shoal.Network{}, nil
	case KindNode:
		return &shoal.Node{}, nil
	case KindSecret:
		return &shoal.Secret{}, nil
	case KindService:
		return &shoal.Service{}, nil
	case KindTask:
		return &shoal.Task{}, nil
	}
	return nil, fmt.Errorf("unknown kind of object %q", k)
}

// clone copies the outermost struct of an object, so that its Meta can be set without touching the caller's.
func clone(o Object) Object {
	switch o := o.(type) {
	case *shoal.Cluster:
		return copied(o)
	case *shoal.Config:
		return copied(o)
	case *shoal.Network:
		return copied(o)
	case *shoal.Node:
		return copied(o)
	case *shoal.Secret:
		return copied(o)
	case *shoal.Service:
		return copied(o)
	case *shoal.Task:
		return copied(o)
	}
	return o
}

func copied[T any](o *T) *T {
	c := *o
	return &c
}
