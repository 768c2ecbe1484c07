package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/shoal-dev/shoal/internal/store"
)

// commit writes one transaction of the controllers.
type commit struct {
	loop        *Loop
	transaction *transaction
	epoch       uint64

	revisions []uint64      // that were made
	tooLarge  map[item]bool // whose changes could not be written
}

// parts writes groups at once or, if they are more than one transaction of the store can hold, in parts. A group that is too large by itself is left
// out, so that the others do not wait for it.
func (c *commit) parts(ctx context.Context, groups []*group) error {
	err := c.write(ctx, groups)
	if !errors.Is(err, store.ErrTooLarge) {
		return err
	}
	if len(groups) == 1 {
		c.loop.cfg.Log.Error("an object has become too large to be written; nothing more is done about it until it is made smaller",
			"kind", groups[0].id.Kind, "id", groups[0].id.ID, "err", err)
		for _, work := range groups[0].writers {
			c.tooLarge[work] = true
		}
		return nil
	}
	half := len(groups) / 2
	if err := c.parts(ctx, groups[:half]); err != nil {
		return err
	}
	return c.parts(ctx, groups[half:])
}

func (c *commit) write(ctx context.Context, groups []*group) error {
	changes := c.transaction.changes(groups, c.epoch)
	if changes.Empty() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	rev, err := c.loop.cfg.Store.Commit(ctx, changes)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	c.revisions = append(c.revisions, rev)
	return nil
}
