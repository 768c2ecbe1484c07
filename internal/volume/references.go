package volume

import (
	"maps"
	"slices"
)

// AddReference records that a container uses a volume, which keeps the volume from being removed. It is idempotent.
func (s *Store) AddReference(name, container string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.volumes[name]; !ok {
		return notFound(name)
	}
	if s.users[name] == nil {
		s.users[name] = map[string]bool{}
	}
	s.users[name][container] = true
	return nil
}

// RemoveReference undoes AddReference. It does nothing if there is no such reference.
func (s *Store) RemoveReference(name, container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users[name], container)
	if len(s.users[name]) == 0 {
		delete(s.users, name)
	}
}

// Users returns the sorted IDs of the containers that use a volume, nil if there are none.
func (s *Store) Users(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.users[name]))
}
