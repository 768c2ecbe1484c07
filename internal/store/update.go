package store

import "context"

// Update calls change with the newest view and commits what it returns. If an object has changed meanwhile, it starts again with a newer view. An error
// of change, or one of Commit other than that, is returned; a name that is taken is such an error.
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
