package dispatcher

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Attach gives a plain container an address on an attachable network: a task with no service, that only the allocator and
// the tables care about.
func (d *Dispatcher) Attach(ctx context.Context, req *rpc.AttachRequest) (*rpc.AttachReply, error) {
	caller := rpc.CallerOf(ctx)
	view, sub := d.cfg.Store.Subscribe()
	defer sub.Close()
	network := view.NetworkByName(req.Network)
	if network == nil {
		network = view.Network(shoal.NetworkID(req.Network))
	}
	switch {
	case network == nil:
		return nil, shoal.NotFound("network %s not found", req.Network)
	case !network.Spec.Attachable:
		return nil, shoal.PermissionDenied("network %s not manually attachable", network.Spec.Name)
	}
	task := &shoal.Task{
		ID:           shoal.NewID[shoal.TaskID](),
		NodeID:       caller.NodeID,
		DesiredState: shoal.TaskRunning,
		Status:       shoal.TaskStatus{State: shoal.TaskNew, Timestamp: view.Now(), Message: "created"},
		Spec: shoal.TaskSpec{
			Attachment: &shoal.AttachmentSpec{ContainerID: req.ContainerID, ContainerName: req.Name, Address: req.Address},
			Networks:   []shoal.NetworkAttachmentSpec{{Target: string(network.ID), Aliases: req.Aliases}},
		},
	}
	var changes store.Changes
	changes.Put(task)
	if _, err := d.cfg.Store.Commit(ctx, changes); err != nil {
		return nil, fmt.Errorf("attach container %s to network %s: %w", req.ContainerID, network.Spec.Name, err)
	}
	reply, err := d.awaitAddress(ctx, sub, task.ID)
	if err != nil {
		_ = d.deleteTask(context.WithoutCancel(ctx), task.ID) // the first error is what the caller must know
		return nil, err
	}
	reply.Name = network.Spec.Name
	return reply, nil
}

// awaitAddress waits for the allocator and then lets the attachment count as running.
func (d *Dispatcher) awaitAddress(ctx context.Context, sub *store.Subscription, id shoal.TaskID) (*rpc.AttachReply, error) {
	for {
		task := d.cfg.Store.View().Task(id)
		if task != nil && len(task.Networks) > 0 && len(task.Networks[0].Addresses) > 0 {
			err := d.cfg.Store.Update(ctx, func(view store.View) (store.Changes, error) {
				var changes store.Changes
				if task := view.Task(id); task != nil {
					t := *task
					t.Status = shoal.TaskStatus{State: shoal.TaskRunning, Timestamp: view.Now(), Message: "attached"}
					changes.Put(&t)
				}
				return changes, nil
			})
			return &rpc.AttachReply{TaskID: id, Network: task.Networks[0]}, err
		}
		if task != nil && task.Status.Err != "" {
			return nil, shoal.FailedPrecondition("%s", task.Status.Err)
		}
		if _, err := sub.Next(ctx); err != nil {
			return nil, err
		}
	}
}

// Detach takes an attachment of the calling node back.
func (d *Dispatcher) Detach(ctx context.Context, req *rpc.DetachRequest) (*rpc.DetachReply, error) {
	task := d.cfg.Store.View().Task(req.TaskID)
	if task != nil && (task.Spec.Attachment == nil || task.NodeID != rpc.CallerOf(ctx).NodeID) {
		return nil, shoal.PermissionDenied("task %s is not an attachment of this node", req.TaskID)
	}
	return &rpc.DetachReply{}, d.deleteTask(ctx, req.TaskID)
}

func (d *Dispatcher) deleteTask(ctx context.Context, id shoal.TaskID) error {
	return d.cfg.Store.Update(ctx, func(view store.View) (store.Changes, error) {
		var changes store.Changes
		if task := view.Task(id); task != nil {
			changes.Delete(task)
		}
		return changes, nil
	})
}
