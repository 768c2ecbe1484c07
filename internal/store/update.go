package store

import "context"

// Update commits the changes that change makes from the newest view. When an object has been changed by somebody else meanwhile, it
// calls change again with a newer view. A name that is taken is an error and not retried.
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
