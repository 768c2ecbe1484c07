package store

import "context"

// Update commits what change makes of the newest view, again for as long as what it read has changed in between. A taken
// name is not retried.
func (s *Store) Update(ctx context.Context, change func(View) (Changes, error)) error {
	for {
		view := s.View()
		changes, err := change(view)
		if err != nil {
			return err
		}
		_, err = s.Commit(ctx, changes)
		if !IsConflict(err) || IsNameTaken(err) {
			return err
		}
		if err := s.Wait(ctx, view.Revision()+1); err != nil {
			return err
		}
	}
}
