package orchestrator

import (
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// The cluster's default was stored and shown, and no task ever had it.
func TestTasksHaveTheClustersLogDriverUnlessTheirServiceNamesOne(t *testing.T) {
	s := newStage(t, nil)
	cluster := shoal.Driver{Name: "gelf", Options: map[string]string{"gelf-address": "udp://h:1"}}
	s.put(&shoal.Cluster{ID: "c", Spec: shoal.ClusterSpec{TaskHistoryLimit: 5, DefaultLogDriver: &cluster}})
	if changes := s.reconcile(t); !changes.Empty() {
		t.Error("a change of the default replaces tasks")
	}
	s.report("t01", shoal.TaskFailed)
	s.reconcile(t)
	if got := s.last().LogDriver(); got == nil || got.Name != "gelf" {
		t.Errorf("the task logs to %+v", got)
	}
	s.edit(func(svc *shoal.Service) { svc.Spec.Task.LogDriver = &shoal.Driver{Name: "local"} })
	s.reconcile(t)
	if got := s.last().LogDriver(); got.Name != "local" {
		t.Errorf("the task of a service with a driver logs to %+v", got)
	}
	if (&shoal.Task{}).LogDriver() != nil {
		t.Error("without either it is the node's default")
	}
}
